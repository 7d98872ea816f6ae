import { describe, expect, onTestFinished, test } from 'vitest';
import { createResolver } from '../../src/dns/resolver.ts';
import {
  addressData,
  caaData,
  type DnsQuestion,
  type DnsReply,
  nameData,
  startFaultyDns,
} from '../support/dns-server.ts';
import { loopbackAddress } from '../support/net.ts';

async function serve(answer: (question: DnsQuestion) => DnsReply | undefined) {
  const dns = await startFaultyDns(answer);
  onTestFinished(dns.close);
  const server = `${dns.listen.host}:${dns.listen.port}`;
  return { ...dns, server, resolver: createResolver({ resolvers: [dns.listen] }) };
}

describe('addresses', () => {
  test('of both families are asked for', async ({ signal }) => {
    const ipv6 = Buffer.from('20010db8000000000000000000000001', 'hex');
    const { resolver, server } = await serve(({ type }) => ({
      records: [type === 'A' ? { type, data: addressData('192.0.2.1') } : { type: 'AAAA', data: ipv6 }],
    }));
    expect(await resolver.addresses('site.test', { signal })).toEqual({
      ipv4: { state: 'found', records: ['192.0.2.1'], resolver: server },
      ipv6: { state: 'found', records: ['2001:db8::1'], resolver: server },
    });
  });

  test.each([
    { when: 'NXDOMAIN', code: 3, expected: { state: 'no such name' } },
    { when: 'an empty answer', code: 0, expected: { state: 'no records' } },
    { when: 'SERVFAIL', code: 2, expected: { state: 'server failure', detail: 'SERVFAIL' } },
    {
      when: 'REFUSED',
      code: 5,
      expected: { state: 'server failure', detail: expect.stringMatching(/^REFUSED/) },
    },
  ])('are "$expected.state" after $when', async ({ code, expected }) => {
    const { resolver, server } = await serve(() => ({ code }));
    const { ipv4, ipv6 } = await resolver.addresses('site.test', { signal: AbortSignal.timeout(20_000) });
    expect([ipv4, ipv6]).toEqual([
      { ...expected, resolver: server },
      { ...expected, resolver: server },
    ]);
  });

  test('are not known when nothing listens', async ({ signal }) => {
    const host = loopbackAddress();
    const resolver = createResolver({ resolvers: [{ host, port: 9 }] });
    const { ipv4 } = await resolver.addresses('site.test', { signal });
    expect(ipv4).toEqual({
      state: 'no answer',
      resolver: `${host}:9`,
      detail: 'connection refused: nothing listens there',
    });
  });

  test('are not known when the resolver keeps silent, within a bounded time', async ({ signal }) => {
    const { resolver, asked } = await serve(() => undefined);
    const { ipv4 } = await resolver.addresses('site.test', { signal });
    expect(ipv4).toMatchObject({ state: 'no answer', detail: 'no answer, though it was asked repeatedly' });
    expect(asked.filter(({ type }) => type === 'A').length).toBeGreaterThan(1);
  });

  test('are behind an alias that the resolver leaves to be followed', async ({ signal }) => {
    const { resolver } = await serve(({ name, type }) => {
      if (name === 'alias.test') return { records: [{ type: 'CNAME', data: nameData('site.test') }] };
      return type === 'A' ? { records: [{ type, data: addressData('192.0.2.7') }] } : {};
    });
    const { ipv4, ipv6 } = await resolver.addresses('alias.test', { signal });
    expect(ipv4).toMatchObject({ state: 'found', records: ['192.0.2.7'] });
    expect(ipv6).toMatchObject({ state: 'no records' });
  });

  test('are given up when aliases lead round in a circle', async ({ signal }) => {
    const { resolver } = await serve(() => ({ records: [{ type: 'CNAME', data: nameData('site.test') }] }));
    const { ipv4 } = await resolver.addresses('site.test', { signal });
    expect(ipv4).toMatchObject({ state: 'server failure', detail: 'more than 8 aliases in a row' });
  });
});

test('the next resolver is asked when one fails', async ({ signal }) => {
  const [broken, good] = [
    await serve(() => ({ code: 2 })),
    await serve(() => ({ records: [{ type: 'CAA', data: caaData(0, 'issue', 'ca.example') }] })),
  ];
  const resolver = createResolver({ resolvers: [broken.listen, good.listen] });
  expect(await resolver.caa('site.test', { signal })).toMatchObject({
    state: 'found',
    resolver: good.server,
  });
  const both = createResolver({ resolvers: [broken.listen, { host: loopbackAddress(), port: 9 }] });
  expect(await both.caa('site.test', { signal })).toMatchObject({
    state: 'server failure',
    resolver: expect.stringContaining(`${broken.server} and `),
    detail: expect.stringMatching(/SERVFAIL.*connection refused/),
  });
});

test('an answer that there is nothing is an answer: no other resolver is asked', async ({ signal }) => {
  const [first, second] = [await serve(() => ({ code: 3 })), await serve(() => ({}))];
  const resolver = createResolver({ resolvers: [first.listen, second.listen] });
  expect((await resolver.caa('site.test', { signal })).state).toBe('no such name');
  expect(second.asked).toEqual([]);
});

test('a question ends at once when it is cancelled', async () => {
  const stop = new AbortController();
  const reason = new Error('stopping');
  const { resolver } = await serve(() => {
    stop.abort(reason);
    return undefined;
  });
  await expect(resolver.caa('site.test', { signal: stop.signal })).rejects.toBe(reason);
});

describe('CAA records', () => {
  const caa = async (...records: readonly Buffer[]) => {
    const { resolver } = await serve(() => ({ records: records.map((data) => ({ type: 'CAA', data })) }));
    return resolver.caa('site.test', { signal: AbortSignal.timeout(20_000) });
  };

  test('keep their flags and tags, known or not', async () => {
    expect(
      await caa(
        caaData(128, 'tbs', 'Unknown'),
        caaData(0, 'issue', 'ca.example; accounturi=https://ca.example/1'),
        caaData(1, 'issueWild', ';'),
        caaData(128, 'type', 'x'),
      ),
    ).toMatchObject({
      state: 'found',
      records: [
        { flags: 128, tag: 'tbs', value: 'Unknown' },
        { flags: 0, tag: 'issue', value: 'ca.example; accounturi=https://ca.example/1' },
        { flags: 1, tag: 'issueWild', value: ';' },
        { flags: 128, tag: 'type', value: 'x' },
      ],
    });
  });

  test.each([
    { when: 'a tag stands where Node puts the flags', data: caaData(128, 'critical', 'x') },
    { when: 'a tag is one that Node loses', data: caaData(128, '__proto__', 'x') },
    { when: 'a tag looks like what Node adds', data: caaData(128, 'type', 'CAA') },
    { when: 'a value is empty', data: caaData(0, 'issue', '') },
    { when: 'a record breaks off', data: Buffer.from([0, 200, 65]) },
  ])('are not guessed when $when', async ({ data }) => {
    const answer = await caa(caaData(0, 'issue', 'ca.example'), data);
    expect(answer.state).toBe('server failure');
  });
});
