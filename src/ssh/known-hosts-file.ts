import { readFile, stat } from 'node:fs/promises';
import { KacmeError } from '../domain/errors.ts';
import { type KnownHosts, parseKnownHosts } from './known-hosts.ts';

/** known_hosts files, read again when they change, so that a key pinned by the operator counts at once. */
export class KnownHostsFiles {
  readonly #cache = new Map<string, { readonly version: string; readonly knownHosts: Promise<KnownHosts> }>();

  /** Throws `ERR_CONFIG_UNREADABLE`: without the file no host can be trusted. */
  read(file: string, options: { signal: AbortSignal }): Promise<KnownHosts> {
    return this.#read(file, undefined, options);
  }

  /** A file that is not there yet pins nothing. Throws `ERR_CONFIG_UNREADABLE` for one that is there and unreadable. */
  readIfThere(file: string, options: { signal: AbortSignal }): Promise<KnownHosts> {
    return this.#read(file, parseKnownHosts('', file), options);
  }

  async #read(
    file: string,
    otherwise: KnownHosts | undefined,
    { signal }: { signal: AbortSignal },
  ): Promise<KnownHosts> {
    try {
      const { mtimeMs, ctimeMs, size, ino } = await stat(file);
      const version = [mtimeMs, ctimeMs, size, ino].join(' ');
      const cached = this.#cache.get(file);
      if (cached?.version === version) return await cached.knownHosts;
      // A promise, so that all hosts which connect at the same time share it.
      const knownHosts = readFile(file, 'utf8').then((text) => parseKnownHosts(text, file));
      this.#cache.set(file, { version, knownHosts });
      knownHosts.catch(() => this.#cache.delete(file));
      return await knownHosts;
    } catch (error) {
      signal.throwIfAborted();
      if (otherwise !== undefined && isMissing(error)) return otherwise;
      throw new KacmeError('ERR_CONFIG_UNREADABLE', `read known_hosts file ${file}: ${wordsOf(error)}`, {
        retry: 'never',
        remedy: `pin the hosts' keys in ${file} (kacme hosts scan prints them; compare the fingerprints on the hosts) and make it readable`,
        cause: error,
      });
    }
  }
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOENT';

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
