import type { Resolver as NodeResolver } from 'node:dns/promises';
import type { CaaRecord } from '../domain/caa.ts';
import type { DnsAnswer, ServiceRecord } from '../domain/dns.ts';
import type { Listen } from '../domain/model.ts';
import type { Resolver } from '../ports/resolver.ts';
import { readCaaRecord } from './caa-record.ts';

/** c-ares waits twice as long at its second try. */
const TRY_MS = 1_500;
const TRIES = 2;
/** Bound of one question to one resolver, aliases included. */
const WITHIN_MS = 6_000;
/** Resolvers follow aliases themselves; those that do not are followed this far. */
const MAX_ALIASES = 8;

/** Codes of node:dns, which c-ares gives. */
const NO_SUCH_NAME: ReadonlySet<string> = new Set(['ENOTFOUND', 'EBADNAME']);
const SERVER_FAILURES: Readonly<Record<string, string>> = {
  ESERVFAIL: 'SERVFAIL',
  EREFUSED: 'REFUSED: it does not answer this machine, or not for this name',
  EFORMERR: 'FORMERR',
  ENOTIMP: 'NOTIMP',
  EBADRESP: 'its answer cannot be read',
};
const SILENCES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: nothing listens there',
  ETIMEOUT: 'no answer, though it was asked repeatedly',
};

export interface ResolverOptions {
  /** Asked in this order; undefined: those of the system (resolv.conf(5)), its search domains left out. */
  readonly resolvers: readonly Listen[] | undefined;
}

/**
 * The adapter for DNS. One resolver at a time is asked, and the next one when it fails or is silent: Node itself takes
 * the SERVFAIL of the first for the answer.
 */
export function createResolver({ resolvers }: ResolverOptions): Resolver {
  const ask = async <T>(
    name: string,
    query: (resolver: NodeResolver, name: string) => Promise<readonly T[] | Unreadable>,
    { signal }: { signal: AbortSignal },
  ): Promise<DnsAnswer<T>> => {
    // Loaded when first needed: most commands ask no DNS.
    const { Resolver, getServers } = await import('node:dns/promises');
    const servers = resolvers?.map(formatServer) ?? getServers();
    const failed: (DnsAnswer<T> & { readonly detail: string })[] = [];
    for (const server of servers) {
      const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
      resolver.setServers([server]);
      const answer = await askOne({ resolver, server, name }, query, { signal });
      if (!('detail' in answer)) return answer;
      failed.push(answer);
    }
    return summarize(failed);
  };
  return {
    addresses: async (name, options) => {
      const [ipv4, ipv6] = await Promise.all([
        ask(name, (resolver, at) => resolver.resolve4(at), options),
        ask(name, (resolver, at) => resolver.resolve6(at), options),
      ]);
      return { ipv4, ipv6 };
    },
    services: (name, options) => ask(name, resolveServices, options),
    caa: (name, options) => ask(name, resolveCaa, options),
  };
}

/** An answer that is there, and that Node does not show whole. */
interface Unreadable {
  readonly unreadable: string;
}

async function resolveServices(resolver: NodeResolver, name: string): Promise<readonly ServiceRecord[]> {
  const records = await resolver.resolveSrv(name);
  return records.map((record) => ({
    target: record.name.toLowerCase().replace(/\.$/, ''),
    port: record.port,
  }));
}

async function resolveCaa(resolver: NodeResolver, name: string): Promise<readonly CaaRecord[] | Unreadable> {
  const records = (await resolver.resolveCaa(name)).map(readCaaRecord);
  const read = records.filter((record) => record !== undefined);
  if (read.length === records.length) return read;
  return { unreadable: 'it gives a CAA property whose tag cannot be told from its flags' };
}

async function askOne<T>(
  { resolver, server, name }: { resolver: NodeResolver; server: string; name: string },
  query: (resolver: NodeResolver, name: string) => Promise<readonly T[] | Unreadable>,
  { signal }: { signal: AbortSignal },
): Promise<DnsAnswer<T>> {
  signal.throwIfAborted();
  let late = false;
  const cancel = () => resolver.cancel();
  const timer = setTimeout(() => {
    late = true;
    cancel();
  }, WITHIN_MS);
  signal.addEventListener('abort', cancel, { once: true });
  try {
    let at = name;
    for (let aliases = 0; aliases <= MAX_ALIASES; aliases++) {
      const records = await query(resolver, at);
      if ('unreadable' in records)
        return { state: 'server failure', resolver: server, detail: records.unreadable };
      if (records.length > 0) return { state: 'found', records, resolver: server };
      // Something of another type came back: an alias, whose target the resolver may have left to us.
      const [target] = await resolver.resolveCname(at);
      if (target === undefined) return { state: 'no records', resolver: server };
      at = target;
    }
    return { state: 'server failure', resolver: server, detail: `more than ${MAX_ALIASES} aliases in a row` };
  } catch (error) {
    signal.throwIfAborted();
    return readFailure(late ? 'ETIMEOUT' : codeOf(error), server, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', cancel);
  }
}

function readFailure(code: string | undefined, server: string, error: unknown): DnsAnswer<never> {
  if (code === 'ENODATA') return { state: 'no records', resolver: server };
  if (code !== undefined && NO_SUCH_NAME.has(code)) return { state: 'no such name', resolver: server };
  const silence = code === undefined ? undefined : SILENCES[code];
  if (silence !== undefined) return { state: 'no answer', resolver: server, detail: silence };
  const failure = code === undefined ? undefined : SERVER_FAILURES[code];
  if (failure !== undefined) return { state: 'server failure', resolver: server, detail: failure };
  const detail = error instanceof Error ? error.message : String(error);
  return { state: 'no answer', resolver: server, detail };
}

/** One that answered tells more than one that was silent. */
function summarize<T>(failed: readonly (DnsAnswer<T> & { readonly detail: string })[]): DnsAnswer<T> {
  const resolver = failed.map((answer) => answer.resolver).join(' and ');
  if (failed.length === 0)
    return { state: 'no answer', resolver: 'the system', detail: 'it names no resolver (/etc/resolv.conf)' };
  const told = failed.find(({ state }) => state === 'server failure');
  return {
    state: told === undefined ? 'no answer' : 'server failure',
    resolver,
    detail: [...new Set(failed.map(({ detail }) => detail))].join(', '),
  };
}

/** As Node wants it: brackets around IPv6. */
const formatServer = ({ host, port }: Listen): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
