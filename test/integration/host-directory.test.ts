import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { wireHostDirectory } from '../../src/compose/directory.ts';
import type { DiscoverySpec } from '../../src/domain/model.ts';
import {
  addressData,
  type DnsQuestion,
  type DnsReply,
  nameData,
  serviceData,
  startFaultyDns,
} from '../support/dns-server.ts';
import { scratchDirectory } from '../support/scratch.ts';

const run = promisify(execFile);
const directory = wireHostDirectory();
const ipv6Data = Buffer.from('20010db8000000000000000000000001', 'hex');
const SERVICE = '_ssh._tcp.test';
const SERVFAIL = { code: 2 };

async function source(
  kind: 'dns' | 'srv',
  answer: (question: DnsQuestion) => DnsReply | undefined,
): Promise<DiscoverySpec> {
  const dns = await startFaultyDns(answer);
  onTestFinished(dns.close);
  const asked = { resolvers: [dns.listen], refreshMs: 1_000 };
  return kind === 'srv'
    ? { kind, name: SERVICE, ...asked }
    : { kind, name: 'hosts.test', port: 2985, ...asked };
}

const srv = (target: string, port = 22) => ({ type: 'SRV', data: serviceData(target, port) }) as const;
const a = (address: string) => ({ type: 'A', data: addressData(address) }) as const;

describe('address records', () => {
  test('of both families are hosts', async ({ signal }) => {
    const from = await source('dns', ({ type }) => ({
      records: type === 'A' ? [a('10.0.0.2'), a('10.0.0.1')] : [{ type: 'AAAA', data: ipv6Data }],
    }));
    expect(await directory.hosts(from, { signal })).toEqual({
      hosts: ['10.0.0.2', '10.0.0.1', '2001:db8::1'].map((address) => ({
        name: address,
        address,
        port: 2985,
      })),
      doubts: [],
    });
  });

  test('of one family are hosts in part when the other cannot be learned', async ({ signal }) => {
    const from = await source('dns', ({ type }) => (type === 'A' ? { records: [a('10.0.0.1')] } : SERVFAIL));
    expect(await directory.hosts(from, { signal })).toMatchObject({
      hosts: [{ address: '10.0.0.1' }],
      doubts: [expect.stringMatching(/^AAAA records of hosts\.test at .*: SERVFAIL$/)],
    });
  });

  test.each([
    { what: 'NXDOMAIN', reply: { code: 3 }, says: /the name does not exist \(NXDOMAIN\)/ },
    { what: 'SERVFAIL', reply: SERVFAIL, says: /SERVFAIL/ },
    { what: 'nothing', reply: {}, says: /it names no host/ },
  ])('that are $what are an error', async ({ reply, says }) => {
    const from = await source('dns', () => reply);
    await expect(directory.hosts(from, { signal: AbortSignal.timeout(20_000) })).rejects.toMatchObject({
      code: 'ERR_HOSTS_UNKNOWN',
      retry: 'later',
      message: expect.stringMatching(says),
      remedy: expect.stringContaining('hosts.test'),
    });
  });
});

describe('SRV records', () => {
  const zone =
    (records: NonNullable<DnsReply['records']>, addresses: Readonly<Record<string, DnsReply>>) =>
    ({ name, type }: DnsQuestion): DnsReply => {
      if (name === SERVICE) return type === 'SRV' ? { records } : {};
      const reply = addresses[name] ?? { code: 3 };
      const wanted = reply.records?.filter((record) => record.type === type);
      return wanted === undefined ? reply : { records: wanted };
    };

  test('are hosts by target and port, at one address each', async ({ signal }) => {
    const answer = zone([srv('LB2.test', 2985), srv('lb1.test'), srv('lb1.test', 2222)], {
      'lb1.test': { records: [a('10.0.0.9'), a('10.0.0.1'), { type: 'AAAA', data: ipv6Data }] },
      'lb2.test': { records: [{ type: 'AAAA', data: ipv6Data }] },
    });
    expect(await directory.hosts(await source('srv', answer), { signal })).toEqual({
      hosts: [
        { name: 'lb2.test', address: '2001:db8::1', port: 2985 },
        { name: 'lb1.test', address: '10.0.0.1', port: 22 },
        { name: 'lb1.test', address: '10.0.0.1', port: 2222 },
      ],
      doubts: [],
    });
  });

  test('are followed over an alias', async ({ signal }) => {
    const lb1 = { 'lb1.test': { records: [a('10.0.0.1')] } };
    const from = await source('srv', (question) =>
      question.name === SERVICE
        ? { records: [{ type: 'CNAME', data: nameData('_ssh._tcp.other.test') }] }
        : question.name === '_ssh._tcp.other.test'
          ? { records: question.type === 'SRV' ? [srv('lb1.test')] : [] }
          : zone([], lb1)(question),
    );
    expect(await directory.hosts(from, { signal })).toMatchObject({ hosts: [{ name: 'lb1.test' }] });
  });

  test.each([
    { what: 'has no address', target: 'lb2.test', port: 22, says: /lb2\.test has no address/ },
    { what: 'cannot be looked up', target: 'lb3.test', port: 22, says: /A records of lb3\.test .*SERVFAIL/ },
    { what: 'would pin every host', target: '*', port: 22, says: /"\*" at port 22 is no host name and port/ },
    { what: 'is for a shell', target: '$(id).test', port: 22, says: /is no host name and port/ },
    { what: 'is an address', target: '10.0.0.7', port: 22, says: /is no host name and port/ },
    { what: 'has no port', target: 'lb1.test', port: 0, says: /at port 0 is no host name and port/ },
  ])('whose target $what are hosts in part', async ({ target, port, says }) => {
    const answer = zone([srv('lb1.test', 2985), srv(target, port)], {
      'lb1.test': { records: [a('10.0.0.1')] },
      'lb3.test': SERVFAIL,
    });
    const found = await directory.hosts(await source('srv', answer), {
      signal: AbortSignal.timeout(20_000),
    });
    expect(found.hosts).toEqual([{ name: 'lb1.test', address: '10.0.0.1', port: 2985 }]);
    expect(found.doubts).toContainEqual(expect.stringMatching(says));
  });

  test.each([
    { what: 'the root alone (RFC 2782)', records: [srv('.')], says: /it names no host/ },
    { what: 'no usable target', records: [srv('*'), srv('lb2.test')], says: /lb2\.test has no address/ },
  ])('that name $what are an error', async ({ records, says }) => {
    const from = await source('srv', zone(records, {}));
    await expect(directory.hosts(from, { signal: AbortSignal.timeout(20_000) })).rejects.toMatchObject({
      code: 'ERR_HOSTS_UNKNOWN',
      message: expect.stringMatching(says),
    });
  });
});

describe('a file', () => {
  async function fileSource(): Promise<DiscoverySpec & { readonly path: string }> {
    const scratch = await scratchDirectory();
    onTestFinished(() => scratch.remove());
    return { kind: 'file', path: join(scratch.path, 'hosts'), port: 22 };
  }

  test('may be a link to another one', async ({ signal }) => {
    const from = await fileSource();
    await writeFile(`${from.path}.1`, '10.0.0.1\n');
    await symlink(`${from.path}.1`, from.path);
    expect(await directory.hosts(from, { signal })).toMatchObject({ hosts: [{ address: '10.0.0.1' }] });
  });

  test.each<{ what: string; make: (path: string) => Promise<unknown>; says: RegExp }>([
    { what: 'missing', make: async () => {}, says: /ENOENT/ },
    { what: 'empty', make: (path) => writeFile(path, ''), says: /it names no host/ },
    { what: 'a FIFO', make: (path) => run('mkfifo', [path]), says: /not a regular file/ },
    { what: 'a directory', make: (path) => run('mkdir', [path]), says: /not a regular file/ },
    { what: 'endless', make: (path) => writeFile(path, '#'.repeat(1_048_577)), says: /longer than/ },
    { what: 'binary', make: (path) => writeFile(path, Buffer.alloc(64, 0xff)), says: /hosts:1:1: / },
    {
      what: 'wrong in many lines',
      make: (path) => writeFile(path, 'a b\n'.repeat(9)),
      says: /hosts:5:1: [^;]*; and 4 more/,
    },
  ])('that is $what is an error', async ({ make, says }) => {
    const from = await fileSource();
    await make(from.path);
    const { signal } = new AbortController();
    await expect(directory.hosts(from, { signal })).rejects.toMatchObject({
      code: 'ERR_HOSTS_UNKNOWN',
      message: expect.stringMatching(says),
      remedy: expect.any(String),
    });
  });
});
