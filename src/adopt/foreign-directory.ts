import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { KacmeError } from '../domain/errors.ts';
import type { ForeignClient, ReadForeignDirectory } from '../ports/adoption-source.ts';
import { readCertbotDirectory } from './certbot.ts';
import { readLegoDirectory } from './lego.ts';

/** More than any certificate, key or account file of these programs. */
const MAX_BYTES = 262_144;

const ABSENT: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR']);

/** Files of another program, read without following it anywhere outside of what it says itself. */
export interface ForeignFiles {
  /** Names in a directory, sorted; none when it does not exist or is no directory. */
  list(path: string): Promise<readonly string[]>;
  /** Throws a plain Error that says why not. */
  read(path: string): Promise<string>;
}

const READERS = { lego: readLegoDirectory, certbot: readCertbotDirectory } as const;
const SHAPES: Readonly<Record<ForeignClient, string>> = {
  lego: "lego's (its --path), or what holds several of these: certificates/ and accounts/ lie in each",
  certbot: "certbot's (its --config-dir, usually /etc/letsencrypt): renewal/, live/ and accounts/ lie in it",
};

export const readForeignDirectory: ReadForeignDirectory = async (client, directory, { signal }) => {
  try {
    const findings = await READERS[client](directory, filesWith(signal));
    if (findings.bundles.length + findings.accounts.length + findings.problems.length > 0) return findings;
  } catch (error) {
    signal.throwIfAborted();
    throw unusable(client, directory, error instanceof Error ? error.message : String(error), error);
  }
  throw unusable(client, directory, 'there is neither a certificate nor an account in it');
};

function filesWith(signal: AbortSignal): ForeignFiles {
  return {
    list: async (path) => {
      signal.throwIfAborted();
      try {
        return (await readdir(path)).sort();
      } catch (error) {
        if (error instanceof Error && 'code' in error && ABSENT.has(error.code)) return [];
        throw error;
      }
    },
    read: async (path) => {
      // Not blocked by a FIFO that lies there.
      await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const { size } = await file.stat();
      if (size > MAX_BYTES) throw new Error(`${size} bytes are more than such a file has`);
      return await file.readFile({ encoding: 'utf8', signal });
    },
  };
}

function unusable(client: ForeignClient, directory: string, reason: string, cause?: unknown): KacmeError {
  return new KacmeError('ERR_ADOPTION_SOURCE', `cannot adopt from ${client}:${directory}: ${reason}`, {
    retry: 'never',
    remedy: `name the directory that is ${SHAPES[client]}; whoever adopts must be able to read it: the running service, when there is one`,
    ...(cause === undefined ? {} : { cause }),
  });
}
