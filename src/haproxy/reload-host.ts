import { HostError } from '../domain/host-error.ts';
import { readBundlePem } from '../domain/x509.ts';
import type { ReloadCheck, ReloadOutcome } from '../ports/haproxy-host.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { readHostFile } from './host-file.ts';
import { HaproxyReload, type ReloadContext, settled } from './reload.ts';
import { verifyHandshakes } from './verify.ts';

/**
 * Brings a changed configuration into the running HAProxy: prepare, validate, reload, then handshakes, which must
 * present what lies in the files, since that is what HAProxy has read. Throws as `HaproxyReload` does, and
 * `ERR_HOST_UNVERIFIED`: nothing is undone then, for the configuration is the operator's.
 */
export async function reloadHost(
  context: ReloadContext,
  checks: readonly ReloadCheck[],
  options: EffectOptions,
): Promise<ReloadOutcome> {
  const reload = new HaproxyReload(context);
  await reload.prepare(options);
  await reload.validate(options);
  const workers = await reload.reload(options);
  let handshakes = 0;
  for (const check of checks) handshakes += await verified(context, check, options);
  return { workers, handshakes };
}

/** The number of handshakes that were made; none for a place whose file holds no bundle. */
async function verified(
  { view, host }: ReloadContext,
  { deployment, servername }: ReloadCheck,
  options: EffectOptions,
): Promise<number> {
  const file = await readHostFile(view.session, view.label, deployment.file, options);
  const held = file && readBundlePem(file.content.toString('utf8'));
  if (held?.state !== 'loadable') return 0;
  const { fingerprint256 } = held.facts;
  const request = { servername, fingerprint256, family: deployment.family };
  const verification = await settled(
    view,
    () => verifyHandshakes(view.pool.verify, host, request, { ...options, session: view.session }),
    ({ state }) => state !== 'failed',
    options,
  );
  if (verification.state === 'unverified') return 0;
  if (verification.state === 'verified') return verification.handshakes;
  throw new HostError('ERR_HOST_UNVERIFIED', {
    host: view.label,
    step: 'verify',
    reason: `HAProxy was reloaded, but ${verification.reason}`,
    retry: 'later',
    remedy: `see that haproxy.cfg still has a bind with ${deployment.path} at verify.connect of the pool; put the former configuration back and run kacme reload again`,
  });
}
