import type { ErrorReport } from '../../domain/errors.ts';
import type {
  CertificateStatus,
  HostStatus,
  PendingRevocation,
  PlaceState,
  PlaceStatus,
  Status,
} from '../../domain/status.ts';
import { discoveryFailures, discoveryTable } from './discovery.ts';
import { hostFailures, renderFailures, type ShownFailure, shortReason } from './failure.ts';
import { paint, type Tone, type View } from './style.ts';
import { type Cell, renderTable } from './table.ts';
import { renderMoment, renderRelative, withDistance } from './time.ts';

const ROLES: Readonly<Record<Status['role'], { readonly text: string; readonly tone: Tone }>> = {
  leading: { text: 'leading: this service acts', tone: 'good' },
  standby: { text: 'standby: another process acts', tone: 'faint' },
  offline: { text: 'offline: no service runs, nothing happens until one does', tone: 'warning' },
};

const CERTIFICATE_TONES: Readonly<Record<CertificateStatus['state'], Tone>> = {
  unreadable: 'bad',
  missing: 'bad',
  'self-signed': 'warning',
  valid: 'good',
  expired: 'bad',
  revoked: 'bad',
};

const PLACE_TONES: Readonly<Record<PlaceState, Tone>> = {
  'in sync': 'good',
  unverified: 'warning',
  'file only': 'warning',
  'out of sync': 'bad',
  kept: 'warning',
  foreign: 'warning',
  failed: 'bad',
  unreachable: 'bad',
  'awaiting pin': 'bad',
  unknown: 'faint',
};

/** Two tables, certificates and places, then every failure in full. */
export function renderStatus(status: Status, now: Date, view: View): string {
  const role = ROLES[status.role];
  return [
    `kacme ${paint(role.text, role.tone, view)} (${renderMoment(status.at)})\n`,
    certificateTable(status, now, view),
    placeTable(status, view),
    discoveryTable(status, now, view),
    renderFailures(failuresOf(status, now), view),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function certificateTable({ certificates }: Status, now: Date, view: View): string {
  if (certificates.length === 0) return 'no certificates are configured\n';
  // Where all keys are of one type the column would take space from what happens next, and say nothing.
  const showKey = new Set(certificates.map(({ key }) => key)).size > 1;
  return renderTable(
    ['CERTIFICATE', ...(showKey ? ['KEY'] : []), 'STATE', 'ISSUER', 'EXPIRES', 'NEXT'],
    certificates.map((certificate) => certificateRow(certificate, now, { showKey })),
    view,
  );
}

function placeTable({ hosts, discoveries }: Status, view: View): string {
  const rows = hosts.flatMap((host) => host.places.map((place) => placeRow(host, place)));
  if (rows.length === 0)
    return discoveries.length > 0 ? 'no hosts are known\n' : 'no deployments are configured\n';
  return renderTable(['POOL', 'HOST', 'CERTIFICATE', 'STATE', 'REASON'], rows, view);
}

/** False when something failed or is not as it should be, so that a script can ask by exit status. */
export function isHealthy(status: Status): boolean {
  return (
    status.certificates.every(
      (certificate) =>
        (certificate.state === 'valid' || certificate.state === 'self-signed') &&
        certificate.lastFailure === undefined,
    ) &&
    status.discoveries.every(({ failure }) => failure === undefined) &&
    status.hosts.every(
      (host) => host.reachable !== false && host.places.every(({ state }) => PLACE_TONES[state] !== 'bad'),
    )
  );
}

function certificateRow(
  certificate: CertificateStatus,
  now: Date,
  { showKey }: { showKey: boolean },
): readonly (Cell | string)[] {
  return [
    certificate.name,
    ...(showKey ? [certificate.key] : []),
    { text: certificate.state, tone: CERTIFICATE_TONES[certificate.state] },
    certificate.issuer ?? '-',
    renderRelative(certificate.notAfter, now),
    [certificate.next, ...certificate.pendingRevocations.map(describePending)].join('; '),
  ];
}

function describePending({ fingerprint256, reason, failure }: PendingRevocation): string {
  const why = failure === undefined ? 'once no host presents it' : `again later: ${failure.message}`;
  return `revokes ${fingerprint256.slice(0, 16)} (${reason}) ${why}`;
}

function placeRow(host: HostStatus, place: PlaceStatus): readonly (Cell | string)[] {
  return [
    host.pool,
    host.host,
    place.certificate,
    { text: place.state, tone: PLACE_TONES[place.state] },
    shortReason(place.reason, host),
  ];
}

function failuresOf(status: Status, now: Date): readonly ShownFailure[] {
  return [
    ...status.certificates.flatMap((certificate) => certificateFailure(certificate, now)),
    ...discoveryFailures(status, now),
    ...hostFailures(
      status.hosts.flatMap(({ pool, host, places }) => places.map((place) => ({ ...place, pool, host }))),
      (report, retryAt) => nextForHost(report, status.role, retryAt),
    ),
  ];
}

function certificateFailure(certificate: CertificateStatus, now: Date): readonly ShownFailure[] {
  const failure = certificate.lastFailure;
  if (failure === undefined) return [];
  if (certificate.state === 'unreadable')
    return [{ subject: `certificate ${certificate.name}`, report: failure, next: certificate.next }];
  const times = failure.failures === 1 ? 'once' : `${failure.failures} times in a row`;
  return [
    {
      subject: `certificate ${certificate.name}, failed ${times}, last ${renderRelative(failure.at, now)}`,
      report: failure,
      next: withDistance(certificate.next, now),
    },
  ];
}

function nextForHost({ retry }: ErrorReport, role: Status['role'], retryAt: string | undefined): string {
  if (role === 'offline') return 'nothing until `kacme serve` or `kacme distribute` runs';
  if (retryAt !== undefined) return `kacme tries again at ${retryAt}; \`kacme distribute\` does so at once`;
  return retry === 'never'
    ? 'kacme keeps looking and installs the bundle as soon as this is repaired'
    : 'kacme tries again by itself within 30 s of the host being reachable';
}
