import { type Finding, Findings } from '../domain/finding.ts';
import { judgeHost, judgeUnreadableHost } from '../domain/host-check.ts';
import { Lane } from '../domain/lane.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { HostObservation } from '../domain/observation.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { HaproxyHosts, Verification } from '../ports/haproxy-host.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { Bundles } from './bundles.ts';
import { expectedFailure } from './expected-failure.ts';
import { idOf, type Target } from './host-journal.ts';

const HOSTS_AT_ONCE = 16;

export interface HostsContext {
  readonly config: KacmeConfig;
  readonly bundles: Bundles;
  readonly hosts: HaproxyHosts;
  /** Undefined: nothing is tried on hosts. */
  readonly mandate: Mandate | undefined;
}

/** Every host that has a deployment, side by side: what it holds, and what a change would need. */
export async function checkHosts(
  targets: readonly Target[],
  context: HostsContext,
  options: { signal: AbortSignal },
): Promise<readonly Finding[]> {
  const lane = new Lane(HOSTS_AT_ONCE);
  const findings = await waitForAll(
    targets.map((target) => lane.run(() => checkHost(target, context, options), options)),
  );
  return findings.flat();
}

async function checkHost(
  target: Target,
  context: HostsContext,
  options: { signal: AbortSignal },
): Promise<readonly Finding[]> {
  const { deployments } = target;
  const { mandate } = context;
  const host = context.hosts.host(target.pool, target.host);
  const subject = idOf(target);
  try {
    const observation = await host.observe(deployments, options);
    const trial =
      mandate === undefined ? undefined : await host.rehearse(deployments, { ...options, mandate });
    const bundleBytes = await bundleBytesOf(target, context, options);
    const judged = judgeHost({
      subject,
      observation,
      deployments,
      trial,
      reloads: target.pool.reload !== undefined,
      bundleBytes,
    });
    return [...judged, ...(await checkHandshakes(target, observation, context, options))];
  } catch (error) {
    return judgeUnreadableHost(subject, expectedFailure(error, options));
  }
}

async function bundleBytesOf(
  { deployments }: Target,
  { config, bundles }: HostsContext,
  options: { signal: AbortSignal },
): Promise<ReadonlyMap<string, number>> {
  const sizes = await waitForAll(
    deployments.map(async ({ certificate, path }) => {
      const spec = config.certificates[certificate];
      const desired = spec && (await bundles.desired(spec, options));
      return desired === undefined ? [] : [[path, desired.place.pemBytes] as const];
    }),
  );
  return new Map(sizes.flat());
}

/** Only where HAProxy runs: what a stopped one does not answer is no news. */
async function checkHandshakes(
  target: Target,
  { haproxy }: HostObservation,
  { config, bundles, hosts }: HostsContext,
  options: { signal: AbortSignal },
): Promise<readonly Finding[]> {
  if (haproxy.state === 'stopped') return [];
  const findings = new Findings('hosts', idOf(target));
  for (const { certificate, family } of target.deployments) {
    const spec = config.certificates[certificate];
    if (spec === undefined) continue;
    const fingerprint256 = (await bundles.desired(spec, options))?.place.facts.fingerprint256 ?? '';
    const [servername = ''] = spec.identifiers;
    const request = { servername, fingerprint256, family };
    const verification = await hosts.host(target.pool, target.host).verify(request, options);
    judgeHandshakes(
      certificate,
      verification,
      { pool: target.pool.name, held: fingerprint256 !== '' },
      findings,
    );
  }
  return findings.list;
}

function judgeHandshakes(
  certificate: string,
  verification: Verification,
  { pool, held }: { pool: string; held: boolean },
  findings: Findings,
): void {
  switch (verification.state) {
    case 'verified':
      findings.ok('handshakes', `${verification.handshakes} present ${certificate}`);
      break;
    case 'unverified':
      findings.warning(
        'handshakes',
        verification.reason,
        `set pools.${pool}.verify.connect, such as ["{host}:443"]`,
      );
      break;
    case 'failed':
      if (verification.answered && !held) findings.ok('handshakes', 'answered');
      else if (verification.answered)
        findings.warning('handshakes', verification.reason, 'run kacme distribute, and see kacme status');
      else
        findings.failed(
          'handshakes',
          verification.reason,
          `let pools.${pool}.verify.connect name where this HAProxy listens for TLS, and open the way there from here`,
        );
  }
}
