import type { Gauge, Registry } from 'prom-client';
import { isInSync, type PlaceStatus, type Status } from '../domain/status.ts';

export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

export interface Metrics {
  /** Counts one request to a CA; `result` is `ok` or an `ErrorCode`. */
  countAcmeRequest(issuer: string, result: string): void;
  /** The Prometheus text format, from one status taken now. Rejects when the status cannot be had. */
  render(options: { signal: AbortSignal }): Promise<MetricsPage>;
}

export interface MetricsOptions {
  readonly version: string;
  status(options: { signal: AbortSignal }): Promise<Status>;
}

/** prom-client is loaded at the first scrape: it costs 100 ms, which a service that starts need not wait for. */
export function createMetrics({ version, status }: MetricsOptions): Metrics {
  const acmeRequests: AcmeRequests = new Map();
  let board: Promise<Board> | undefined;
  return {
    countAcmeRequest: (issuer, result) => {
      const key = `${issuer}\n${result}`;
      const known = acmeRequests.get(key) ?? { issuer, result, requests: 0 };
      acmeRequests.set(key, { ...known, requests: known.requests + 1 });
    },
    render: async ({ signal }) => {
      board ??= createBoard(version, acmeRequests);
      const [{ registry, show }, snapshot] = await Promise.all([board, status({ signal })]);
      show(snapshot);
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}

type AcmeRequests = Map<
  string,
  { readonly issuer: string; readonly result: string; readonly requests: number }
>;

interface Board {
  readonly registry: Registry;
  /** Replaces every gauge, so that what is configured no more disappears. */
  show(status: Status): void;
}

async function createBoard(version: string, acmeRequests: AcmeRequests): Promise<Board> {
  const { collectDefaultMetrics, Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const gauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Gauge({ name: `kacme_${name}`, help, labelNames: [...labelNames], registers: [registry] });

  collectDefaultMetrics({ register: registry });
  gauge('build_info', 'Always 1; which kacme this is.', ['version', 'node']).set(
    { version, node: process.version },
    1,
  );
  new Counter({
    name: 'kacme_acme_requests_total',
    help: 'Requests to a CA since the start, by result: ok or the code of the error.',
    labelNames: ['issuer', 'result'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { issuer, result, requests } of acmeRequests.values())
        this.inc({ issuer, result }, requests);
    },
  });

  const perCertificate = ['certificate'] as const;
  const gauges = {
    leading: gauge('leading', '1 when this process acts, 0 when another one does.', []),
    notAfter: gauge('certificate_not_after_seconds', 'When it expires, Unix time.', perCertificate),
    renewAt: gauge('certificate_renew_at_seconds', 'When its renewal is due, Unix time.', perCertificate),
    lastSuccess: gauge(
      'certificate_last_success_timestamp_seconds',
      'When it was last issued, Unix time.',
      perCertificate,
    ),
    lastFailure: gauge(
      'certificate_last_failure_timestamp_seconds',
      'When issuing it last failed, Unix time; absent once that succeeded.',
      perCertificate,
    ),
    failures: gauge(
      'certificate_consecutive_failures',
      'Failed attempts to issue it since the last success.',
      perCertificate,
    ),
    reachable: gauge('host_reachable', '1 when the last look at the host succeeded.', ['pool', 'host']),
    inSync: gauge('place_in_sync', '1 when the host holds what it should.', ['pool', 'host', 'certificate']),
    discovered: gauge('discovery_hosts', 'Hosts of a pool that are learned, as last known.', ['pool']),
    learned: gauge('discovery_success', '1 when the last look at the source of a pool gave an answer.', [
      'pool',
    ]),
    answeredAt: gauge(
      'discovery_last_answer_timestamp_seconds',
      'When the source last answered, Unix time.',
      ['pool'],
    ),
  };
  return { registry, show: (status) => showStatus(gauges, status) };
}

interface Gauges {
  readonly leading: Gauge;
  readonly notAfter: Gauge<'certificate'>;
  readonly renewAt: Gauge<'certificate'>;
  readonly lastSuccess: Gauge<'certificate'>;
  readonly lastFailure: Gauge<'certificate'>;
  readonly failures: Gauge<'certificate'>;
  readonly reachable: Gauge<'pool' | 'host'>;
  readonly inSync: Gauge<'pool' | 'host' | 'certificate'>;
  readonly discovered: Gauge<'pool'>;
  readonly learned: Gauge<'pool'>;
  readonly answeredAt: Gauge<'pool'>;
}

function showStatus(gauges: Gauges, status: Status): void {
  for (const gauge of Object.values(gauges)) gauge.reset();
  gauges.leading.set(status.role === 'leading' ? 1 : 0);
  for (const { name: certificate, notAfter, renewAt, lastSuccess, lastFailure } of status.certificates) {
    setMoment(gauges.notAfter, certificate, notAfter);
    setMoment(gauges.renewAt, certificate, renewAt);
    setMoment(gauges.lastSuccess, certificate, lastSuccess);
    setMoment(gauges.lastFailure, certificate, lastFailure?.at);
    gauges.failures.set({ certificate }, lastFailure?.failures ?? 0);
  }
  for (const { pool, hosts, answeredAt, failure } of status.discoveries) {
    gauges.discovered.set({ pool }, hosts);
    if (failure !== undefined || answeredAt !== undefined)
      gauges.learned.set({ pool }, failure === undefined ? 1 : 0);
    if (answeredAt !== undefined) gauges.answeredAt.set({ pool }, Date.parse(answeredAt) / 1000);
  }
  for (const { pool, host, reachable, places } of status.hosts) {
    if (reachable !== undefined) gauges.reachable.set({ pool, host }, reachable ? 1 : 0);
    for (const [certificate, value] of syncByCertificate(places)) {
      gauges.inSync.set({ pool, host, certificate }, value);
    }
  }
}

function setMoment(gauge: Gauge<'certificate'>, certificate: string, date: string | undefined): void {
  if (date !== undefined) gauge.set({ certificate }, Date.parse(date) / 1000);
}

/** A certificate that lies in several places of one host is in sync when all of them are. */
function syncByCertificate(places: readonly PlaceStatus[]): ReadonlyMap<string, 0 | 1> {
  const values = new Map<string, 0 | 1>();
  for (const { certificate, state } of places) {
    const inSync = isInSync(state);
    if (inSync !== undefined) values.set(certificate, inSync && values.get(certificate) !== 0 ? 1 : 0);
  }
  return values;
}
