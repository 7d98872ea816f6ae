import type { HostKeyScan, HostKeyStanding, ScannedHostKey } from '../../ports/host-key-scan.ts';
import { oneLine, paint, type Tone, type View } from './style.ts';

const TONES: Readonly<Record<HostKeyStanding, Tone>> = {
  pinned: 'good',
  new: 'warning',
  differs: 'bad',
  revoked: 'bad',
};

/** For the operator: what each host presents, how that compares with what is pinned, and what to compare it with. */
export function renderHostKeys(scans: readonly HostKeyScan[], view: View): string {
  if (scans.length === 0) return 'no host is reached over SSH: there is nothing to pin\n';
  const blocks = scans.map((scan) => renderScan(scan, view));
  const undecided = scans.flatMap(({ keys }) =>
    keys.filter(({ standing }) => standing === 'new' || standing === 'differs'),
  );
  if (undecided.length === 0) return blocks.join('');
  const files = [...new Set(undecided.map(({ keyType }) => keyFile(keyType)))].toSorted();
  return [
    ...blocks,
    'Nothing was pinned. Compare these fingerprints with what each host says on its own console, then pin what is equal:\n',
    ...files.map((file) => `  ssh-keygen -lf ${file}\n`),
  ].join('');
}

function renderScan({ pool, name, role, address, port, knownHosts, keys, failure }: HostKeyScan, view: View) {
  const endpoint = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  const title = role === 'host' ? `${pool}/${name} (${endpoint})` : `jump host ${endpoint}`;
  const width = Math.max(...keys.map(({ keyType }) => keyType.length), 0);
  const lines = keys.map(({ keyType, fingerprint, standing, pinnedAt }) => {
    const state = paint(standing.padEnd('differs'.length), TONES[standing], view);
    const where =
      pinnedAt.length === 0 ? '' : `  ${standing === 'differs' ? 'from ' : ''}${pinnedAt.join(', ')}`;
    return `  ${state}  ${oneLine(keyType).padEnd(width)}  ${fingerprint}${where}`;
  });
  if (failure !== undefined) {
    lines.push(`  ${paint('failed', 'bad', view)}   ${oneLine(failure.message)}`);
    if (failure.remedy !== undefined) lines.push(`           what to do: ${oneLine(failure.remedy)}`);
  }
  const heading = paint(`${title}, known hosts: ${knownHosts}`, 'heading', view);
  return `${[heading, ...lines].join('\n')}\n`;
}

/**
 * What would have to be added to known_hosts. A key that differs from the pinned one is a comment: appended without
 * a look it must not let an impostor in.
 */
export function renderKnownHosts(scans: readonly HostKeyScan[]): string {
  const lines = scans.flatMap(({ keys }) => keys.map(pinningLine)).filter((line) => line !== undefined);
  return [...new Set(lines)].map((line) => `${line}\n`).join('');
}

function pinningLine({ standing, pinnedAt, knownHostsLine }: ScannedHostKey): string | undefined {
  if (standing === 'new') return knownHostsLine;
  if (standing === 'differs') return `# differs from ${pinnedAt.join(', ')}: ${knownHostsLine}`;
  return undefined;
}

/** Where sshd keeps its public keys unless told otherwise (sshd_config(5), HostKey). */
function keyFile(keyType: string): string {
  const name = keyType.startsWith('ecdsa') ? 'ecdsa' : keyType === 'ssh-rsa' ? 'rsa' : 'ed25519';
  return `/etc/ssh/ssh_host_${name}_key.pub`;
}
