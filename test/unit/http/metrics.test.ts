import { expect, test } from 'vitest';
import type { PlaceState, Status } from '../../../src/domain/status.ts';
import { createMetrics } from '../../../src/http/metrics.ts';
import { STATUS } from '../cli/fake-service.ts';

const { signal } = new AbortController();
const NOW = '2026-03-01T12:00:00Z';

async function scrape(status: Status): Promise<readonly string[]> {
  const metrics = createMetrics({ version: '1.2.3', status: async () => status });
  return (await metrics.render({ signal })).body.split('\n');
}

function withPlaces(states: readonly PlaceState[]): Status {
  const [host] = STATUS.hosts;
  const [place] = host?.places ?? [];
  if (host === undefined || place === undefined) throw new Error('the fixture has no place');
  return { ...STATUS, hosts: [{ ...host, places: states.map((state) => ({ ...place, state })) }] };
}

test('moments are Unix time in seconds, and what is not known is absent', async () => {
  const lines = await scrape(STATUS);
  expect(lines).toContain('kacme_certificate_not_after_seconds{certificate="external"} 1777640400');
  expect(lines).toContain('kacme_certificate_renew_at_seconds{certificate="external"} 1775027601');
  expect(lines).toContain(
    'kacme_certificate_last_success_timestamp_seconds{certificate="external"} 1769930001',
  );
  expect(lines).toContain('kacme_certificate_consecutive_failures{certificate="external"} 0');
  expect(lines.join('\n')).not.toContain('kacme_certificate_last_failure_timestamp_seconds{');
  expect(lines).toContain('kacme_leading 1');
  expect(lines).toContain(`kacme_build_info{version="1.2.3",node="${process.version}"} 1`);
});

test('a failing certificate shows when and how often', async () => {
  const [certificate] = STATUS.certificates;
  if (certificate === undefined) throw new Error('the fixture has no certificate');
  const lines = await scrape({
    ...STATUS,
    role: 'standby',
    certificates: [
      {
        ...certificate,
        lastFailure: {
          code: 'ERR_ACME_UNREACHABLE',
          message: 'refused',
          retry: 'later',
          at: '2026-03-01T11:00:00Z',
          failures: 3,
          notBefore: '2026-03-01T12:40:00Z',
        },
      },
    ],
  });
  expect(lines).toContain('kacme_certificate_consecutive_failures{certificate="external"} 3');
  expect(lines).toContain(
    'kacme_certificate_last_failure_timestamp_seconds{certificate="external"} 1772362800',
  );
  expect(lines).toContain('kacme_leading 0');
});

test.each<{ states: readonly PlaceState[]; value: 0 | 1 }>([
  { states: ['in sync'], value: 1 },
  { states: ['unverified'], value: 1 },
  { states: ['file only'], value: 1 },
  { states: ['kept'], value: 1 },
  { states: ['out of sync'], value: 0 },
  { states: ['foreign'], value: 0 },
  { states: ['failed', 'in sync'], value: 0 },
  { states: ['in sync', 'unreachable'], value: 0 },
])('a host whose places are $states counts as $value', async ({ states, value }) => {
  const lines = await scrape(withPlaces(states));
  expect(lines).toContain(
    `kacme_place_in_sync{pool="loadbalancers",host="10.0.0.11",certificate="external"} ${value}`,
  );
});

test('a place not looked at yet has no sample', async () => {
  expect((await scrape(withPlaces(['unknown']))).join('\n')).not.toContain('kacme_place_in_sync{');
});

test('where hosts are learned from shows whether that goes well', async () => {
  const discovery = {
    pool: 'lb',
    source: 'A and AAAA records of lb.test',
    hosts: 3,
    answeredAt: '2026-03-01T11:00:00Z',
    missing: [],
    leftOut: [],
    doubts: [],
    failure: undefined,
  };
  const failure = { code: 'ERR_HOSTS_UNKNOWN', message: 'SERVFAIL', retry: 'later', since: NOW } as const;
  const lines = await scrape({ ...STATUS, discoveries: [discovery, { ...discovery, pool: 'web', failure }] });
  expect(lines).toContain('kacme_discovery_hosts{pool="lb"} 3');
  expect(lines).toContain('kacme_discovery_last_answer_timestamp_seconds{pool="lb"} 1772362800');
  expect(lines).toContain('kacme_discovery_success{pool="lb"} 1');
  expect(lines).toContain('kacme_discovery_success{pool="web"} 0');
  const unasked = await scrape({ ...STATUS, discoveries: [{ ...discovery, answeredAt: undefined }] });
  expect(unasked.join('\n')).not.toContain('kacme_discovery_success{');
});

test('requests to a CA are counted from the start, and each scrape gives the same total', async () => {
  const metrics = createMetrics({ version: '1.2.3', status: async () => STATUS });
  metrics.countAcmeRequest('letsencrypt', 'ok');
  metrics.countAcmeRequest('letsencrypt', 'ok');
  metrics.countAcmeRequest('letsencrypt', 'ERR_ACME_TIMEOUT');
  for (let scrapes = 0; scrapes < 2; scrapes += 1) {
    const { body } = await metrics.render({ signal });
    expect(body).toContain('kacme_acme_requests_total{issuer="letsencrypt",result="ok"} 2');
    expect(body).toContain('kacme_acme_requests_total{issuer="letsencrypt",result="ERR_ACME_TIMEOUT"} 1');
  }
});

test('what is configured no more disappears from the next scrape', async () => {
  let status: Status = STATUS;
  const metrics = createMetrics({ version: '1.2.3', status: async () => status });
  await metrics.render({ signal });
  status = { ...STATUS, certificates: [], hosts: [] };
  const { body } = await metrics.render({ signal });
  expect(body).not.toContain('{certificate=');
  expect(body).not.toContain('{pool=');
});
