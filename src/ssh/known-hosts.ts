import { createHash } from 'node:crypto';
import { type HostPattern, parseHostPattern } from './host-pattern.ts';

/** One pinned key: a line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export interface PinnedKey {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  /** As in the key itself, such as `ssh-ed25519`. */
  readonly keyType: string;
  /** As `ssh-keygen -lf` prints it. */
  readonly fingerprint: string;
}

interface KnownHostsEntry extends PinnedKey {
  readonly revoked: boolean;
  readonly key: Buffer;
  readonly pattern: HostPattern;
}

/** A line that pins nothing, and why. */
export interface IgnoredLine {
  readonly line: number;
  readonly reason: string;
}

export interface KnownHosts {
  readonly file: string;
  readonly entries: readonly KnownHostsEntry[];
  readonly ignored: readonly IgnoredLine[];
}

/**
 * `changed`: other keys are pinned for this host, of whatever type. `unknown`: none is. Only `known` may be
 * talked to.
 */
export type HostKeyVerdict =
  | { readonly verdict: 'known'; readonly pinned: PinnedKey }
  | { readonly verdict: 'unknown' }
  | { readonly verdict: 'changed'; readonly pinned: readonly PinnedKey[] }
  | { readonly verdict: 'revoked'; readonly pinned: PinnedKey };

export interface HostEndpoint {
  readonly host: string;
  readonly port: number;
  /** Another name that its key may be pinned under, looked at before `host`. */
  readonly alias?: string | undefined;
}

/** What ssh2 can verify. SHA-1 signatures (`ssh-rsa` as an algorithm, RFC 8332) are left out on purpose. */
export type HostKeyAlgorithm = (typeof ALGORITHMS)[number];

/** One list for each type of key that a server can hold; `ssh-ed25519` first, since nearly every sshd has it. */
export const ALGORITHMS_BY_KEY: readonly (readonly HostKeyAlgorithm[])[] = [
  ['ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'rsa-sha2-256'],
];

const ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
] as const;

const DEFAULT_PORT = 22;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** Reads a whole file; a line that cannot be used is reported in `ignored` and breaks no other. */
export function parseKnownHosts(text: string, file: string): KnownHosts {
  const entries: KnownHostsEntry[] = [];
  const ignored: IgnoredLine[] = [];
  for (const [index, content] of text.split(/\r?\n/).entries()) {
    const line = index + 1;
    const trimmed = content.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const parsed = parseLine(trimmed);
    if ('ignored' in parsed) ignored.push({ line, reason: parsed.ignored });
    else entries.push({ file, line, ...parsed });
  }
  return { file, entries, ignored };
}

type ParsedLine = Omit<KnownHostsEntry, 'file' | 'line'> | { readonly ignored: string };

function parseLine(content: string): ParsedLine {
  const fields = content.split(/[ \t]+/);
  const marker = fields[0]?.startsWith('@') ? fields.shift() : undefined;
  if (marker === '@cert-authority')
    return { ignored: '@cert-authority is not supported: pin the host key itself' };
  if (marker !== undefined && marker !== '@revoked') return { ignored: `unknown marker ${marker}` };
  const [hosts, keyType, base64] = fields;
  if (hosts === undefined || keyType === undefined || base64 === undefined) {
    return { ignored: 'expected host names, a key type and a key' };
  }
  const key = BASE64.test(base64) ? Buffer.from(base64, 'base64') : undefined;
  if (key === undefined || hostKeyType(key) !== keyType) return { ignored: `not a key of type ${keyType}` };
  const pattern = parseHostPattern(hosts);
  if (pattern === undefined) return { ignored: 'the hashed host name is damaged' };
  return { revoked: marker === '@revoked', keyType, key, fingerprint: fingerprintOf(key), pattern };
}

/** Judges the key (RFC 4253 section 6.6) that a server presented and proved to own. */
export function judgeHostKey(knownHosts: KnownHosts, endpoint: HostEndpoint, key: Buffer): HostKeyVerdict {
  const same = (entry: KnownHostsEntry) => entry.key.equals(key);
  // A revocation counts under either name: there is no reading of the file in which this key is welcome.
  const names = namesOf(endpoint);
  const revoked = knownHosts.entries.find(
    (entry) => entry.revoked && same(entry) && names.some((name) => entry.pattern(name)),
  );
  if (revoked) return { verdict: 'revoked', pinned: revoked };
  const pinned = entriesFor(knownHosts, endpoint);
  const match = pinned.find(same);
  if (match) return { verdict: 'known', pinned: match };
  return pinned.length > 0 ? { verdict: 'changed', pinned } : { verdict: 'unknown' };
}

/**
 * The order in which to ask the server for its key: the types that are pinned first, so that it presents one
 * that can be recognized; the others after, so that a replaced key can at least be named in the refusal.
 */
export function hostKeyAlgorithms(knownHosts: KnownHosts, endpoint: HostEndpoint): HostKeyAlgorithm[] {
  const types = new Set(entriesFor(knownHosts, endpoint).map((entry) => entry.keyType));
  const isPinned = (algorithm: HostKeyAlgorithm) =>
    types.has(algorithm.startsWith('rsa-') ? 'ssh-rsa' : algorithm);
  return [...ALGORITHMS.filter(isPinned), ...ALGORITHMS.filter((algorithm) => !isPinned(algorithm))];
}

/**
 * OpenSSH knows a host on another port than 22 as `[host]:port`, and falls back to the plain name. It does so
 * even when keys of another type are pinned for `[host]:port`; here any entry for it ends the search.
 */
function entriesFor(knownHosts: KnownHosts, endpoint: HostEndpoint): readonly KnownHostsEntry[] {
  const usable = knownHosts.entries.filter((entry) => !entry.revoked);
  for (const name of namesOf(endpoint)) {
    const entries = usable.filter((entry) => entry.pattern(name));
    if (entries.length > 0) return entries;
  }
  return [];
}

/** In the order in which they are looked up. */
function namesOf({ alias, host, port }: HostEndpoint): readonly string[] {
  const hosts = alias === undefined ? [host] : [alias, host];
  return hosts.flatMap((name) => [nameOf({ host: name, port }), name.toLowerCase()]);
}

/** As known_hosts calls it: `host`, or `[host]:port`. */
function nameOf({ host, port }: HostEndpoint): string {
  return port === DEFAULT_PORT ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;
}

/** The line that pins this key. */
export function knownHostsLine({ alias, host, port }: HostEndpoint, key: Buffer): string {
  return `${nameOf({ host: alias ?? host, port })} ${hostKeyType(key)} ${key.toString('base64')}`;
}

/** The type that a public key blob states of itself (RFC 4253 section 6.6); undefined when it is damaged. */
export function hostKeyType(key: Buffer): string | undefined {
  if (key.length < 4) return undefined;
  const end = 4 + key.readUInt32BE(0);
  return end < key.length ? key.toString('latin1', 4, end) : undefined;
}

/** `SHA256:` and unpadded base64, as `ssh-keygen -lf` and sshd's log print it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}
