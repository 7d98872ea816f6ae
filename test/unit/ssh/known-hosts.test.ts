import { createHmac, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  fingerprintOf,
  hostKeyAlgorithms,
  hostKeyType,
  judgeHostKey,
  knownHostsLine,
  parseKnownHosts,
} from '../../../src/ssh/known-hosts.ts';

/** A public key blob of the right shape; nobody holds a private key for it. */
function keyOf(type: string, seed: number): Buffer {
  const field = (content: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(content.length);
    return Buffer.concat([length, content]);
  };
  return Buffer.concat([field(Buffer.from(type)), field(Buffer.alloc(32, seed))]);
}

const ED = keyOf('ssh-ed25519', 1);
const OTHER_ED = keyOf('ssh-ed25519', 2);
const RSA = keyOf('ssh-rsa', 3);
const ECDSA = keyOf('ecdsa-sha2-nistp256', 4);

const line = (hosts: string, key: Buffer, comment = '') =>
  `${hosts} ${hostKeyType(key)} ${key.toString('base64')}${comment}`;

function hashed(name: string): string {
  const salt = randomBytes(20);
  const hash = createHmac('sha1', salt).update(name).digest('base64');
  return `|1|${salt.toString('base64')}|${hash}`;
}

const judge = (text: string, host: string, port: number, key: Buffer) =>
  judgeHostKey(parseKnownHosts(text, 'known_hosts'), { host, port }, key);

describe('a key is known', () => {
  test.each([
    { when: 'its host is named', hosts: 'lb1.test', host: 'lb1.test', port: 22 },
    { when: 'its host is one of several', hosts: 'lb0.test,lb1.test', host: 'lb1.test', port: 22 },
    { when: 'the case of the name differs', hosts: 'LB1.Test', host: 'lb1.tEST', port: 22 },
    { when: 'host and port are named', hosts: '[10.0.0.1]:2985', host: '10.0.0.1', port: 2985 },
    { when: 'an IPv6 host and port are named', hosts: '[fd00::13]:2985', host: 'fd00::13', port: 2985 },
    { when: 'an IPv6 host is named on port 22', hosts: 'fd00::13', host: 'fd00::13', port: 22 },
    {
      when: 'only the plain host is named, and the port is another',
      hosts: 'lb1.test',
      host: 'lb1.test',
      port: 2985,
    },
    { when: 'a * matches', hosts: '*.test', host: 'lb1.test', port: 22 },
    { when: 'a ? matches', hosts: 'lb?.test', host: 'lb1.test', port: 22 },
    { when: 'a * matches host and port', hosts: '[10.0.0.*]:2985', host: '10.0.0.9', port: 2985 },
    { when: 'a lone * matches everything', hosts: '*', host: '10.0.0.9', port: 2985 },
    { when: 'another pattern is negated', hosts: '*.test,!lb2.test', host: 'lb1.test', port: 22 },
    { when: 'its hashed name matches', hosts: hashed('lb1.test'), host: 'lb1.test', port: 22 },
    {
      when: 'its hashed name and port match',
      hosts: hashed('[lb1.test]:2985'),
      host: 'lb1.test',
      port: 2985,
    },
  ])('when $when', ({ hosts, host, port }) => {
    expect(judge(line(hosts, ED), host, port, ED)).toMatchObject({
      verdict: 'known',
      pinned: { file: 'known_hosts', line: 1, fingerprint: fingerprintOf(ED) },
    });
  });

  test('when old and new key are pinned side by side', () => {
    const text = `${line('lb1', ED)}\n${line('lb1', OTHER_ED)}\n`;
    expect(judge(text, 'lb1', 22, ED)).toMatchObject({ verdict: 'known', pinned: { line: 1 } });
    expect(judge(text, 'lb1', 22, OTHER_ED)).toMatchObject({ verdict: 'known', pinned: { line: 2 } });
  });

  test('whatever stands around it', () => {
    const text = `# a comment\r\n\r\n   \t${line('lb1\t', ED, ' root@lb1')}\r\n`;
    expect(judge(text, 'lb1', 22, ED)).toMatchObject({ verdict: 'known', pinned: { line: 3 } });
  });
});

describe('a host that has another name', () => {
  const endpoint = { host: '10.0.0.1', port: 2985, alias: 'lb1.test' };
  const judgeText = (text: string) => judgeHostKey(parseKnownHosts(text, 'known_hosts'), endpoint, ED);

  test.each(['[lb1.test]:2985', 'lb1.test', '[10.0.0.1]:2985', '10.0.0.1'])('may be pinned as %s', (name) => {
    expect(judgeText(line(name, ED))).toMatchObject({ verdict: 'known' });
  });

  test('is looked up under that name before its address', () => {
    const text = `${line('10.0.0.1', ED)}\n${line('lb1.test', OTHER_ED)}\n`;
    expect(judgeText(text)).toMatchObject({ verdict: 'changed', pinned: [{ line: 2 }] });
  });

  test('is refused when its key is revoked under either', () => {
    const text = `${line('lb1.test', ED)}\n@revoked ${line('10.0.0.1', ED)}\n`;
    expect(judgeText(text)).toMatchObject({ verdict: 'revoked' });
  });

  test('is pinned under that name', () => {
    expect(knownHostsLine(endpoint, ED)).toMatch(/^\[lb1\.test\]:2985 ssh-ed25519 /);
  });
});

describe('a key is unknown', () => {
  test.each([
    { when: 'the file is empty', text: '', host: 'lb1', port: 22 },
    { when: 'another host is named', text: line('lb2', ED), host: 'lb1', port: 22 },
    { when: 'another port is named', text: line('[lb1]:2222', ED), host: 'lb1', port: 2985 },
    { when: 'a port is named and it is 22', text: line('[lb1]:2222', ED), host: 'lb1', port: 22 },
    { when: 'the name only begins the same', text: line('lb1', ED), host: 'lb1.test', port: 22 },
    { when: 'a dot is taken literally', text: line('10.0.0.1', ED), host: '10a0.0.1', port: 22 },
    { when: 'its host is negated', text: line('*.test,!lb1.test', ED), host: 'lb1.test', port: 22 },
    { when: 'there are only negations', text: line('!lb2.test', ED), host: 'lb1.test', port: 22 },
    { when: 'a hash is of another name', text: line(hashed('lb2'), ED), host: 'lb1', port: 22 },
    {
      when: 'it is only a certificate authority',
      text: `@cert-authority ${line('*', ED)}`,
      host: 'lb1',
      port: 22,
    },
  ])('when $when', ({ text, host, port }) => {
    expect(judge(text, host, port, ED)).toEqual({ verdict: 'unknown' });
  });
});

describe('a key is changed', () => {
  test('when another key of its type is pinned', () => {
    expect(judge(`\n${line('lb1', ED)}`, 'lb1', 22, OTHER_ED)).toMatchObject({
      verdict: 'changed',
      pinned: [{ line: 2, keyType: 'ssh-ed25519', fingerprint: fingerprintOf(ED) }],
    });
  });

  test('when only keys of other types are pinned', () => {
    expect(judge(line('lb1', RSA), 'lb1', 22, ED)).toMatchObject({ verdict: 'changed' });
  });

  test('when the plain host has it, but host and port have another', () => {
    const text = `${line('lb1', ED)}\n${line('[lb1]:2985', RSA)}`;
    expect(judge(text, 'lb1', 2985, ED)).toMatchObject({ verdict: 'changed', pinned: [{ line: 2 }] });
  });
});

describe('a key is revoked', () => {
  test.each([
    { when: 'for its host', revoked: '@revoked lb1' },
    { when: 'for every host', revoked: '@revoked *' },
    { when: 'for its host and port', revoked: '@revoked [lb1]:2985' },
    { when: 'for its hashed name', revoked: `@revoked ${hashed('lb1')}` },
  ])('even when it is pinned too: $when', ({ revoked }) => {
    const text = `${line('[lb1]:2985', ED)}\n${line(revoked, ED)}`;
    expect(judge(text, 'lb1', 2985, ED)).toMatchObject({ verdict: 'revoked', pinned: { line: 2 } });
  });

  test('alone, not the others of the host', () => {
    const text = `@revoked ${line('*', ED)}\n${line('lb1', OTHER_ED)}`;
    expect(judge(text, 'lb1', 22, OTHER_ED)).toMatchObject({ verdict: 'known' });
  });
});

test('lines that cannot be used are reported by number and break no others', () => {
  const text = [
    line('lb1', ED),
    'lb1 ssh-ed25519',
    'lb1 ssh-ed25519 not*base64',
    `lb1 ssh-rsa ${ED.toString('base64')}`,
    `@maybe ${line('lb1', ED)}`,
    `@cert-authority ${line('*', ED)}`,
    line('|1|broken', ED),
    '1024 35 1234567890',
    line('lb2', RSA),
  ].join('\n');
  const { entries, ignored } = parseKnownHosts(text, 'known_hosts');
  expect(entries.map((entry) => entry.line)).toEqual([1, 9]);
  expect(ignored).toEqual([
    { line: 2, reason: 'expected host names, a key type and a key' },
    { line: 3, reason: 'not a key of type ssh-ed25519' },
    { line: 4, reason: 'not a key of type ssh-rsa' },
    { line: 5, reason: 'unknown marker @maybe' },
    { line: 6, reason: '@cert-authority is not supported: pin the host key itself' },
    { line: 7, reason: 'the hashed host name is damaged' },
    { line: 8, reason: 'not a key of type 35' },
  ]);
});

describe('the server is asked for its key', () => {
  const orderFor = (text: string) =>
    hostKeyAlgorithms(parseKnownHosts(text, 'known_hosts'), { host: 'lb1', port: 22 });

  test.each([
    { pinned: [RSA], first: ['rsa-sha2-512', 'rsa-sha2-256'] },
    { pinned: [ECDSA], first: ['ecdsa-sha2-nistp256'] },
    { pinned: [RSA, ED], first: ['ssh-ed25519', 'rsa-sha2-512', 'rsa-sha2-256'] },
    { pinned: [], first: [] },
  ])('in the types that are pinned first: $first', ({ pinned, first }) => {
    const algorithms = orderFor(pinned.map((key) => line('lb1', key)).join('\n'));
    expect(algorithms.slice(0, first.length)).toEqual(first);
    expect(new Set(algorithms).size).toBe(6);
  });

  test('never with SHA-1', () => {
    expect(orderFor(line('lb1', RSA))).not.toContain('ssh-rsa');
  });

  test('not in a type that is only revoked', () => {
    expect(orderFor(`@revoked ${line('lb1', RSA)}`)[0]).toBe('ssh-ed25519');
  });
});
