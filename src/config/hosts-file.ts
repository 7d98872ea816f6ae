import { readFile, stat } from 'node:fs/promises';
import { type FoundHost, hostsUnknown } from '../domain/discovery.ts';
import type { DiscoverySpec } from '../domain/model.ts';
import { parseEndpoint } from './address.ts';

type FileSource = Extract<DiscoverySpec, { readonly kind: 'file' }>;

/** Some ten thousand hosts: far more than one kacme serves. */
const MAX_BYTES = 1024 * 1024;

/**
 * One host a line, written as in a list of the configuration; empty lines and what follows a `#` are left out. A single
 * malformed line refuses the file whole. Throws `ERR_HOSTS_UNKNOWN`.
 */
export async function readHostsFile(
  source: FileSource,
  { signal }: { signal: AbortSignal },
): Promise<readonly FoundHost[]> {
  const { hosts, mistakes } = parseHosts(await readText(source, { signal }), source);
  if (mistakes.length > 0)
    throw hostsUnknown(
      source,
      someOf(mistakes),
      'correct these lines: until then the whole file is left aside',
    );
  if (hosts.length > 0) return hosts;
  throw hostsUnknown(source, 'it names no host', `write the hosts into ${source.path}, one a line`);
}

export function parseHosts(
  text: string,
  { path, port: defaultPort }: Omit<FileSource, 'kind'>,
): { readonly hosts: readonly FoundHost[]; readonly mistakes: readonly string[] } {
  const hosts = new Map<string, FoundHost>();
  const mistakes: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const entry = line.replace(/#.*/, '');
    const trimmed = entry.trim();
    if (trimmed === '') continue;
    const endpoint = parseEndpoint(trimmed);
    if ('problem' in endpoint) {
      mistakes.push(`${path}:${index + 1}:${entry.indexOf(trimmed) + 1}: ${endpoint.problem}`);
      continue;
    }
    const { host, port = defaultPort } = endpoint.value;
    hosts.set(`${host} ${port}`, { name: host, address: host, port });
  }
  return { hosts: [...hosts.values()], mistakes };
}

/** Enough to see what is wrong. */
const MISTAKES_SHOWN = 5;

function someOf(mistakes: readonly string[]): string {
  const more = mistakes.length > MISTAKES_SHOWN ? [`and ${mistakes.length - MISTAKES_SHOWN} more`] : [];
  return [...mistakes.slice(0, MISTAKES_SHOWN), ...more].join('; ');
}

async function readText(source: FileSource, { signal }: { signal: AbortSignal }): Promise<string> {
  const { path } = source;
  const remedy = `let ${path} be a file with one host a line, readable by the user that kacme runs as`;
  try {
    const file = await stat(path);
    // A FIFO would keep the reader waiting for ever.
    if (!file.isFile()) throw hostsUnknown(source, 'it is not a regular file', remedy);
    if (file.size > MAX_BYTES) throw hostsUnknown(source, `it is longer than ${MAX_BYTES} bytes`, remedy);
    return await readFile(path, { encoding: 'utf8', signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!isSystemError(error)) throw error;
    throw hostsUnknown(source, error.message, remedy);
  }
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error;
