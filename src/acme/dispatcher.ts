import { readFile } from 'node:fs/promises';
import type { Agent, Dispatcher } from 'undici';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';

/** Far more than a directory, an order of a hundred names or a chain takes. */
const MAX_RESPONSE_BYTES = 1_048_576;

/** Longer than the longest pause between two polls, so that a poll finds its connection open. */
const KEEP_ALIVE_MS = 10_000;

interface Connections {
  /** What `caFile` held when the agent was made. */
  roots: string | undefined;
  agent: Agent;
}

/**
 * The connections to CAs: one set for each way to reach one, however often an issuer is connected to. With a `caFile`
 * only the roots in it are trusted, not Node's too: whoever names the root of a private CA has said who may pose as
 * it, and that is none of the public ones.
 */
export class Dispatchers {
  readonly #held = new Map<string, Connections>();

  /**
   * Reads the issuer's `caFile`; where it holds something else than before, that counts from now on for whoever opened
   * it before too: call the result for each request. Throws `ERR_CONFIG_UNREADABLE`.
   */
  async open(issuer: IssuerSpec): Promise<() => Dispatcher> {
    const { directory, caFile, timeoutMs } = issuer;
    const roots = caFile === undefined ? undefined : await readRoots(issuer.name, caFile);
    // Loaded when first needed: undici costs as much at start as all the rest of the adapter.
    const { Agent } = await import('undici');
    const newAgent = () =>
      new Agent({
        connect: { timeout: timeoutMs, ...(roots === undefined ? {} : { ca: roots }) },
        keepAliveTimeout: KEEP_ALIVE_MS,
        maxResponseSize: MAX_RESPONSE_BYTES,
      });
    const key = JSON.stringify([directory, caFile, timeoutMs]);
    const connections = this.#held.get(key) ?? { roots, agent: newAgent() };
    this.#held.set(key, connections);
    if (connections.roots !== roots) {
      // What is under way on the former agent is answered there; its connections close when they are idle.
      connections.agent = newAgent();
      connections.roots = roots;
    }
    return () => connections.agent;
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#held.values(), ({ agent }) => agent.destroy()));
  }
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
