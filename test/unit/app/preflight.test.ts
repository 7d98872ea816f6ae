import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { Preflight, type Probe, type WhileServing } from '../../../src/app/preflight.ts';
import type { CaaRecord } from '../../../src/domain/caa.ts';
import type { AddressAnswers, DnsAnswer } from '../../../src/domain/dns.ts';
import { KacmeError } from '../../../src/domain/errors.ts';
import type { Resolver } from '../../../src/ports/resolver.ts';
import type { ChallengeProbe, ProbeOutcome, SelfCheck } from '../../../src/ports/self-check.ts';

const resolver = '10.0.0.2:53';
const none: DnsAnswer<never> = { state: 'no records', resolver };
const SERVFAIL: DnsAnswer<never> = { state: 'server failure', resolver, detail: 'SERVFAIL' };

interface World {
  /** IPv4 by name; a name that is not here has no records. */
  readonly addresses?: Readonly<Record<string, readonly string[] | DnsAnswer<never>>>;
  readonly caa?: Readonly<Record<string, readonly CaaRecord[] | DnsAnswer<never>>>;
  readonly selfCheck?: Partial<SelfCheck> | undefined;
}

function world({ addresses = { 'site.test': ['192.0.2.1'] }, caa = {}, ...options }: World = {}) {
  const looked: string[] = [];
  const fetched: ChallengeProbe[] = [];
  const served: Probe[][] = [];
  const lines: Readonly<Record<string, unknown>>[] = [];
  let nowMs = 0;
  const answerOf = <T>(held: readonly T[] | DnsAnswer<never> | undefined): DnsAnswer<T> => {
    if (held === undefined) return none;
    return 'state' in held ? held : { state: 'found', records: held, resolver };
  };
  const dns: Resolver = {
    addresses: async (name): Promise<AddressAnswers> => {
      looked.push(name);
      return { ipv4: answerOf(addresses[name]), ipv6: none };
    },
    services: async () => none,
    caa: async (name) => {
      looked.push(`CAA ${name}`);
      return answerOf(caa[name]);
    },
  };
  const selfCheck: SelfCheck = {
    via: undefined,
    passes: 2,
    ...options.selfCheck,
    fetch: async (probe, { signal }): Promise<ProbeOutcome> => {
      fetched.push(probe);
      return options.selfCheck?.fetch?.(probe, { signal }) ?? { state: 'answered' };
    },
  };
  const preflight = new Preflight({
    resolver: dns,
    selfCheck: 'selfCheck' in options && options.selfCheck === undefined ? undefined : selfCheck,
    clock: { now: () => new Date(0), monotonicMs: () => nowMs, sleep: async () => {} },
  });
  const whileServing: WhileServing = async (probes, work) => {
    served.push([...probes]);
    await work();
  };
  const log = pino({ level: 'trace' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const { signal } = new AbortController();
  return {
    looked,
    fetched,
    served,
    warnings: () => lines.filter(({ level }) => level === 40),
    advance: (ms: number) => {
      nowMs += ms;
    },
    reach: (...identifiers: readonly string[]) =>
      preflight.assertReachable(identifiers, { whileServing, log }, { signal }),
    permit: (records: { accountUri?: string; identities?: readonly string[] }, ...names: readonly string[]) =>
      preflight.assertPermitted(
        names,
        {
          issuer: {
            identities: records.identities ?? ['ca.example'],
            accountUri: records.accountUri,
            validationMethod: 'http-01',
          },
          log,
        },
        { signal },
      ),
  };
}

const unreachable = (address: string | undefined) =>
  new KacmeError('ERR_CHALLENGE_UNREACHABLE', `nothing at ${address}`, {
    retry: 'later',
    remedy: 'route it',
  });

describe('the way of challenges', () => {
  test('is tried to each address, in each pass', async () => {
    const { reach, fetched } = world({ addresses: { 'site.test': ['192.0.2.1', '192.0.2.2'] } });
    await reach('site.test');
    expect(fetched.map(({ address }) => address).sort()).toEqual([
      '192.0.2.1',
      '192.0.2.1',
      '192.0.2.2',
      '192.0.2.2',
    ]);
  });

  test('fails when one address of several fails', async () => {
    const { reach } = world({
      addresses: { 'site.test': ['192.0.2.1', '192.0.2.2'] },
      selfCheck: {
        fetch: async ({ address }) => {
          if (address === '192.0.2.2') throw unreachable(address);
          return { state: 'answered' };
        },
      },
    });
    await expect(reach('site.test')).rejects.toMatchObject({ message: 'nothing at 192.0.2.2' });
  });

  test('fails when only the last pass fails', async () => {
    let fetches = 0;
    const { reach } = world({
      selfCheck: {
        passes: 3,
        fetch: async ({ address }) => {
          fetches += 1;
          if (fetches === 3) throw unreachable(address);
          return { state: 'answered' };
        },
      },
    });
    await expect(reach('site.test')).rejects.toMatchObject({ code: 'ERR_CHALLENGE_UNREACHABLE' });
  });

  test('tells what is wrong with every identifier at once', async () => {
    const { reach, fetched } = world({ addresses: { 'good.test': ['192.0.2.1'], 'fail.test': SERVFAIL } });
    await expect(reach('good.test', 'bare.test', 'fail.test')).rejects.toMatchObject({
      code: 'ERR_DNS_NO_ADDRESS',
      message: expect.stringMatching(/^2 of 3 identifiers fail: bare\.test .*; .*fail\.test.*SERVFAIL/),
      remedy: expect.stringMatching(/bare\.test.*fail\.test/),
    });
    expect(fetched).toEqual([]);
  });

  test('goes to one address with via, and an address of the name is asked for all the same', async () => {
    const { reach, fetched } = world({ selfCheck: { via: 'http://10.0.0.10' } });
    await reach('site.test');
    expect(fetched.map(({ address }) => address)).toEqual([undefined, undefined]);
    await expect(reach('bare.test')).rejects.toMatchObject({ code: 'ERR_DNS_NO_ADDRESS' });
  });

  test.each([
    { how: 'with via', selfCheck: { via: 'http://10.0.0.10' } },
    { how: 'without a self-check', selfCheck: undefined },
  ])('$how does not end at a resolver that fails, which is logged', async ({ selfCheck }) => {
    const { reach, warnings } = world({ addresses: { 'site.test': SERVFAIL }, selfCheck });
    await reach('site.test');
    expect(warnings()).toMatchObject([
      { identifier: 'site.test', doubts: [expect.stringContaining('SERVFAIL')] },
    ]);
  });

  test('is in doubt, and no failure, when this machine cannot test an address', async () => {
    const { reach, warnings } = world({
      selfCheck: { fetch: async () => ({ state: 'untestable', reason: 'no IPv6 here' }) },
    });
    await reach('site.test');
    expect(warnings()).toMatchObject([{ doubts: ['192.0.2.1: no IPv6 here'] }]);
  });

  test('leads an IP address to itself', async () => {
    const { reach, fetched, looked } = world();
    await reach('192.0.2.9');
    expect(fetched.map(({ address }) => address)).toEqual(['192.0.2.9', '192.0.2.9']);
    expect(looked).toEqual([]);
  });

  test('is not tried again for a moment once it worked, by whichever certificate', async () => {
    const { reach, fetched, served, looked, advance } = world({
      addresses: { 'site.test': ['192.0.2.1'], 'other.test': ['192.0.2.1'] },
    });
    await reach('site.test');
    await reach('site.test', 'other.test');
    expect(served.map((probes) => probes.map(({ identifier }) => identifier))).toEqual([
      ['site.test'],
      ['other.test'],
    ]);
    expect(looked).toEqual(['site.test', 'other.test']);
    advance(31_000);
    await reach('site.test');
    expect(fetched.filter(({ identifier }) => identifier === 'site.test')).toHaveLength(4);
  });

  test('is tried again at once after it failed', async () => {
    let works = false;
    const { reach } = world({
      selfCheck: {
        fetch: async ({ address }) => {
          if (!works) throw unreachable(address);
          return { state: 'answered' };
        },
      },
    });
    await expect(reach('site.test')).rejects.toMatchObject({ code: 'ERR_CHALLENGE_UNREACHABLE' });
    works = true;
    await expect(reach('site.test')).resolves.toBeUndefined();
  });

  test('has a bounded number of connections open', async () => {
    let open = 0;
    let most = 0;
    const names = Array.from({ length: 60 }, (_, index) => `site${index}.test`);
    const { reach } = world({
      addresses: Object.fromEntries(names.map((name) => [name, ['192.0.2.1']])),
      selfCheck: {
        fetch: async () => {
          open += 1;
          most = Math.max(most, open);
          await new Promise(setImmediate);
          open -= 1;
          return { state: 'answered' };
        },
      },
    });
    await reach(...names);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(16);
  });
});

describe('CAA', () => {
  const issue = (value: string): CaaRecord => ({ flags: 0, tag: 'issue', value });

  test('that names another CA stops the order for good and says what to add where', async () => {
    const { permit } = world({ caa: { 'example.test': [issue('other.example')] } });
    await expect(permit({}, 'www.example.test')).rejects.toMatchObject({
      code: 'ERR_CAA_DENIED',
      retry: 'never',
      message: expect.stringMatching(/www\.example\.test.*example\.test.*CAA 0 issue "other\.example"/),
      remedy: expect.stringContaining('add the record CAA 0 issue "ca.example" at example.test'),
    });
  });

  test('of a critical kind that nobody knows has to go', async () => {
    const { permit } = world({ caa: { 'example.test': [{ flags: 128, tag: 'tbs', value: 'x' }] } });
    await expect(permit({}, 'example.test')).rejects.toMatchObject({
      code: 'ERR_CAA_DENIED',
      remedy: expect.stringContaining('remove this property'),
    });
  });

  test('is climbed once for names with a common parent, and no further than it has records', async () => {
    const { permit, looked } = world({ caa: { 'example.test': [issue('ca.example')] } });
    await permit({}, 'a.example.test', 'b.example.test');
    await permit({}, 'c.example.test');
    expect(looked.filter((name) => name === 'CAA example.test')).toHaveLength(1);
    expect(looked).not.toContain('CAA test');
  });

  test('is looked up again after it denied', async () => {
    const records: Record<string, readonly CaaRecord[]> = { 'example.test': [issue('other.example')] };
    const { permit } = world({ caa: records });
    await expect(permit({}, 'example.test')).rejects.toMatchObject({ code: 'ERR_CAA_DENIED' });
    records['example.test'] = [issue('ca.example')];
    await expect(permit({}, 'example.test')).resolves.toBeUndefined();
  });

  test.each([
    { when: 'it cannot be learned', caa: { 'example.test': SERVFAIL }, identities: ['ca.example'] },
    { when: 'the CA does not name itself', caa: { 'example.test': [issue('x.example')] }, identities: [] },
  ])('is only logged when $when', async ({ caa, identities }) => {
    const { permit, warnings } = world({ caa });
    await permit({ identities }, 'example.test');
    expect(warnings()).toMatchObject([{ identifier: 'example.test', msg: 'CAA not determined' }]);
  });

  test('for an account is judged by the account', async () => {
    const caa = { 'example.test': [issue('ca.example; accounturi=https://ca.example/acct/1')] };
    const { permit } = world({ caa });
    await expect(
      permit({ accountUri: 'https://ca.example/acct/1' }, 'example.test'),
    ).resolves.toBeUndefined();
    await expect(permit({}, 'example.test')).resolves.toBeUndefined();
    await expect(permit({ accountUri: 'https://ca.example/acct/2' }, 'example.test')).rejects.toMatchObject({
      code: 'ERR_CAA_DENIED',
    });
  });

  test('does not concern an IP address', async () => {
    const { permit, looked } = world();
    await permit({}, '192.0.2.1');
    expect(looked).toEqual([]);
  });
});
