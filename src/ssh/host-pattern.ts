import { createHmac } from 'node:crypto';

/** Whether the host field of a known_hosts line means this name (lower case, `[name]:port` off port 22). */
export type HostPattern = (name: string) => boolean;

/** undefined when the field is hashed and damaged. */
export function parseHostPattern(field: string): HostPattern | undefined {
  return field.startsWith('|') ? hashedName(field) : patternList(field);
}

/** `|1|salt|hash`: HMAC-SHA1 of exactly one name (sshd(8)). */
function hashedName(field: string): HostPattern | undefined {
  const [, salt, hash] = /^\|1\|([A-Za-z0-9+/]+=*)\|([A-Za-z0-9+/]+=*)$/.exec(field) ?? [];
  if (salt === undefined || hash === undefined) return undefined;
  const key = Buffer.from(salt, 'base64');
  const expected = Buffer.from(hash, 'base64');
  return (name) => createHmac('sha1', key).update(name).digest().equals(expected);
}

/** PATTERNS of ssh_config(5): one that matches is needed, and a negated one that matches vetoes. */
function patternList(field: string): HostPattern {
  const patterns = field
    .toLowerCase()
    .split(',')
    .map((pattern) => ({ negated: pattern.startsWith('!'), matches: wildcard(pattern.replace(/^!/, '')) }));
  const wanted = patterns.filter(({ negated }) => !negated);
  const vetoes = patterns.filter(({ negated }) => negated);
  return (name) =>
    wanted.some(({ matches }) => matches(name)) && !vetoes.some(({ matches }) => matches(name));
}

/** `*` is any number of characters, `?` exactly one, everything else (brackets too) is itself. */
function wildcard(pattern: string): HostPattern {
  if (!/[*?]/.test(pattern)) return (name) => name === pattern;
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replaceAll('?', '.');
  const regExp = new RegExp(`^${source}$`, 's');
  return (name) => regExp.test(name);
}
