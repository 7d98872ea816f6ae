import { describe, expect, test } from 'vitest';
import { afterAnswer, arrangePools, type FoundHost, type Member } from '../../../src/domain/discovery.ts';
import type { HostSpec, PoolSpec } from '../../../src/domain/model.ts';

const now = new Date('2026-06-01T12:00:00Z');
const ago = (ms: number) => new Date(now.getTime() - ms);
const everyMs = 60_000;
const found = (name: string, address = name, port = 22): FoundHost => ({ name, address, port });
const member = (name: string, missingSince?: Date): Member => ({ ...found(name), missingSince });

describe('after an answer', () => {
  test.each<{
    what: string;
    members: readonly Member[];
    named: readonly string[];
    doubts?: readonly string[];
    expected: readonly Member[];
  }>([
    { what: 'a new host is there', members: [], named: ['b', 'a'], expected: [member('a'), member('b')] },
    {
      what: 'a host that it lacks is missing, and stays',
      members: [member('a'), member('b')],
      named: ['a'],
      expected: [member('a'), member('b', now)],
    },
    {
      what: 'a host that the one before lacked, too, is gone',
      members: [member('a'), member('b', ago(55_000))],
      named: ['a'],
      expected: [member('a')],
    },
    {
      what: 'a host stays when the two came at nearly the same time',
      members: [member('a'), member('b', ago(29_999))],
      named: ['a'],
      expected: [member('a'), member('b', ago(29_999))],
    },
    {
      what: 'a host that is named again is missing no more',
      members: [member('a'), member('b', ago(55_000))],
      named: ['a', 'b'],
      expected: [member('a'), member('b')],
    },
    {
      what: 'with doubts nobody is missing and nobody gone',
      members: [member('a'), member('b', ago(55_000))],
      named: ['c'],
      doubts: ['AAAA records: SERVFAIL'],
      expected: [member('a'), member('b', ago(55_000)), member('c')],
    },
    {
      what: 'hosts stand in the order of their numbers',
      members: [],
      named: ['lb10', 'lb9'],
      expected: [member('lb9'), member('lb10')],
    },
  ])('$what', ({ members, named, doubts = [], expected }) => {
    const answer = { hosts: named.map((name) => found(name)), doubts };
    expect(afterAnswer(members, answer, { now, everyMs })).toEqual(expected);
  });

  test('a host of the same name at another address has moved', () => {
    const members = [{ ...found('lb1', '10.0.0.1'), missingSince: undefined }];
    const answer = { hosts: [found('lb1', '10.0.0.2')], doubts: [] };
    expect(afterAnswer(members, answer, { now, everyMs })).toMatchObject([{ address: '10.0.0.2' }]);
  });
});

describe('pools are arranged', () => {
  const pool = (name: string, hosts: readonly HostSpec[] | undefined, jump?: string): PoolSpec => ({
    name,
    hosts: hosts ?? [],
    ...(hosts === undefined ? { discovery: { kind: 'file', path: '/hosts', port: 22 } } : {}),
    ssh: {
      user: 'kacme',
      identity: { file: '/id' },
      knownHosts: '/known_hosts',
      connectTimeoutMs: 1_000,
      sftp: 'subsystem',
      jumps:
        jump === undefined
          ? []
          : [{ address: jump, port: 22, user: 'kacme', identity: { file: '/id' }, knownHosts: '/kh' }],
    },
    haproxy: { socket: '/admin.sock', masterSocket: undefined },
    verify: { connect: [], handshakes: 1, timeoutMs: 1_000 },
    reload: undefined,
    parallel: 1,
    stopAfter: 1,
  });
  const listed = (address: string): HostSpec => ({ name: address, address, port: 22 });
  const arrange = (pools: readonly PoolSpec[], hosts: Readonly<Record<string, readonly FoundHost[]>>) =>
    arrangePools(pools, ({ name }) => hosts[name] ?? []);

  test('with the hosts that each source names', () => {
    const arranged = arrange([pool('a', [listed('10.0.0.1')]), pool('b', undefined)], {
      b: [found('lb.test', '10.0.0.2')],
    });
    expect(arranged.get('a')?.hosts).toEqual([listed('10.0.0.1')]);
    expect(arranged.get('b')?.hosts).toEqual([
      { name: 'lb.test', address: '10.0.0.2', port: 22, hostKeyName: 'lb.test' },
    ]);
  });

  test('so that a process is in one pool alone, listed before discovered', () => {
    const arranged = arrange([pool('a', undefined), pool('b', [listed('10.0.0.1')])], {
      a: [found('10.0.0.1'), found('10.0.0.2')],
    });
    expect(arranged.get('a')).toEqual({
      hosts: [listed('10.0.0.2')],
      leftOut: [{ name: '10.0.0.1', reason: 'its HAProxy is b/10.0.0.1 already' }],
    });
  });

  test('so that a process has one name', () => {
    const arranged = arrange([pool('a', undefined)], {
      a: [found('lb1.test', '10.0.0.1'), found('lb2.test', '10.0.0.1')],
    });
    expect(arranged.get('a')?.hosts.map(({ name }) => name)).toEqual(['lb1.test']);
    expect(arranged.get('a')?.leftOut).toMatchObject([{ name: 'lb2.test' }]);
  });

  test('so that the same address behind another jump host is another machine', () => {
    const arranged = arrange([pool('a', undefined, 'j1'), pool('b', undefined, 'j2')], {
      a: [found('10.0.0.1')],
      b: [found('10.0.0.1')],
    });
    expect(arranged.get('b')?.hosts).toHaveLength(1);
  });

  test('with the port in the name where one name stands for several', () => {
    const arranged = arrange([pool('a', undefined)], {
      a: [found('lb.test', '10.0.0.1', 2201), found('lb.test', '10.0.0.1', 2202), found('x', 'x')],
    });
    expect(arranged.get('a')?.hosts.map(({ name }) => name)).toEqual(['lb.test:2201', 'lb.test:2202', 'x']);
  });
});
