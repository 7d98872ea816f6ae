import { readFile } from 'node:fs/promises';
import type { Dispatcher } from 'undici';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';

/** Far more than a directory, an order of a hundred names or a chain takes. */
const MAX_RESPONSE_BYTES = 1_048_576;

/** Longer than the longest pause between two polls, so that a poll finds its connection open. */
const KEEP_ALIVE_MS = 10_000;

/**
 * The connections to one issuer. With a `caFile` only the roots in it are trusted, not Node's too: whoever names
 * the root of a private CA has said who may pose as it, and that is none of the public ones.
 */
export async function openDispatcher(issuer: IssuerSpec): Promise<Dispatcher> {
  const ca = issuer.caFile === undefined ? undefined : await readRoots(issuer.name, issuer.caFile);
  // Loaded when first needed: undici costs as much at start as all the rest of the adapter.
  const { Agent } = await import('undici');
  return new Agent({
    connect: { timeout: issuer.timeoutMs, ...(ca === undefined ? {} : { ca }) },
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxResponseSize: MAX_RESPONSE_BYTES,
  });
}

async function readRoots(issuer: string, path: string): Promise<string> {
  const unusable = (why: string, options?: ErrorOptions) =>
    new KacmeError('ERR_CONFIG_UNREADABLE', `issuers.${issuer}.caFile ${path}: ${why}`, {
      ...options,
      retry: 'never',
      remedy: "let it hold, as PEM, the roots that sign the CA's own HTTPS certificate",
    });
  let pem: string;
  try {
    pem = await readFile(path, 'utf8');
  } catch (error) {
    throw unusable(error instanceof Error ? error.message : String(error), { cause: error });
  }
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw unusable('it holds no certificate');
  return pem;
}
