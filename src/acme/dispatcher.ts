import { readFile } from 'node:fs/promises';
import type { Agent, Dispatcher } from 'undici';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import type { ReadSecret } from './account.ts';
import { type HttpProxy, readProxy, tunnelThrough } from './proxy.ts';

/** Far more than a directory, an order of a hundred names or a chain takes. */
const MAX_RESPONSE_BYTES = 1_048_576;

/** Longer than the longest pause between two polls, so that a poll finds its connection open. */
const KEEP_ALIVE_MS = 10_000;

/** What the configuration only refers to: it may hold something else the next time. */
interface Material {
  readonly roots: string | undefined;
  readonly proxy: HttpProxy | undefined;
}

interface Connections {
  /** As JSON, what the agent was made with. */
  material: string;
  agent: Agent;
}

/**
 * The connections to CAs: one set for each way to reach one, however often an issuer is connected to. With a `caFile`
 * only the roots in it are trusted, not Node's too: whoever names the root of a private CA has said who may pose as
 * it, and that is none of the public ones.
 */
export class Dispatchers {
  readonly #readSecret: ReadSecret;
  readonly #held = new Map<string, Connections>();
  readonly #closing = new AbortController();

  constructor(readSecret: ReadSecret) {
    this.#readSecret = readSecret;
  }

  /**
   * Reads the issuer's `caFile` and the password of its proxy; where they hold something else than before, that counts
   * from now on for whoever opened it before too: call the result for each request. Throws `ERR_CONFIG_UNREADABLE` or
   * `ERR_SECRET_UNREADABLE`.
   */
  async open(issuer: IssuerSpec): Promise<() => Dispatcher> {
    const { directory, caFile, proxy, timeoutMs } = issuer;
    const material: Material = {
      roots: caFile === undefined ? undefined : await readRoots(issuer.name, caFile),
      proxy: await readProxy(issuer, this.#readSecret, { signal: this.#closing.signal }),
    };
    const newAgent = await this.#agentMaker(material, timeoutMs);
    const key = JSON.stringify([directory, caFile, proxy, timeoutMs]);
    const now = JSON.stringify(material);
    const connections = this.#held.get(key) ?? { material: now, agent: newAgent() };
    this.#held.set(key, connections);
    if (connections.material !== now) {
      // What is under way on the former agent is answered there; its connections close when they are idle.
      connections.agent = newAgent();
      connections.material = now;
    }
    return () => connections.agent;
  }

  /** Cuts every connection. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(Array.from(this.#held.values(), ({ agent }) => agent.destroy()));
  }

  async #agentMaker({ roots, proxy }: Material, timeoutMs: number): Promise<() => Agent> {
    // Loaded when first needed: a service whose certificates are not due has no use for it.
    const { Agent, buildConnector } = await import('./undici.ts');
    const secure = buildConnector({ timeout: timeoutMs, ...(roots === undefined ? {} : { ca: roots }) });
    const { signal } = this.#closing;
    const connect = proxy === undefined ? secure : tunnelThrough(proxy, { secure, timeoutMs, signal });
    return () => new Agent({ connect, keepAliveTimeout: KEEP_ALIVE_MS, maxResponseSize: MAX_RESPONSE_BYTES });
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
