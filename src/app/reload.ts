import { KacmeError, reportError } from '../domain/errors.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { ReloadResult, ReloadSummary } from '../domain/status.ts';
import type { ReloadOutcome } from '../ports/haproxy-host.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Target } from './host-journal.ts';
import { servernameAmong } from './verdicts.ts';

/**
 * Reloads one host after the other, and stops at the first that fails: what is wrong with a configuration is then wrong
 * on one host. Throws `ERR_HAPROXY_RELOAD` when no pool among them can be reloaded.
 */
export async function reloadHosts(
  config: KacmeConfig,
  targets: readonly Target[],
  deps: Pick<AppDeps, 'hosts' | 'log'>,
  { onProgress, ...options }: EffectOptions & Pick<CommandOptions, 'onProgress'>,
): Promise<ReloadSummary> {
  const reloadable = targets.filter(({ pool }) => pool.reload !== undefined);
  if (reloadable.length === 0) throw noReload(targets);
  const hosts: ReloadResult[] = [];
  let broken: string | undefined;
  for (const target of reloadable) {
    const result =
      broken === undefined ? await reloadOne(config, target, deps, options) : untouched(target, broken);
    if (result.action === 'failed') broken = `${result.pool}/${result.host}`;
    onProgress({ message: `${result.pool}/${result.host}: ${result.action} (${result.reason})` });
    hosts.push(result);
  }
  const reloaded = hosts.filter(({ action }) => action === 'reloaded').length;
  return { outcome: reloaded === hosts.length ? 'done' : reloaded === 0 ? 'failed' : 'partly', hosts };
}

async function reloadOne(
  config: KacmeConfig,
  { pool, host, deployments }: Target,
  { hosts, log }: Pick<AppDeps, 'hosts' | 'log'>,
  options: EffectOptions,
): Promise<ReloadResult> {
  const subject = { pool: pool.name, host: host.name };
  const checks = deployments.map((deployment) => ({
    deployment,
    servername: servernameAmong(config.certificates[deployment.certificate]?.identifiers ?? []),
  }));
  log.info({ ...subject, reason: 'asked for by an operator' }, 'reload begins');
  try {
    const outcome = await hosts.host(pool, host).reload(checks, options);
    const reason = describe(outcome);
    log.info({ ...subject, ...outcome }, 'reload done');
    return { ...subject, action: 'reloaded', reason, failure: undefined };
  } catch (error) {
    const failure = expectedFailure(error, options);
    log.error({ ...subject, err: failure }, 'reload failed');
    return { ...subject, action: 'failed', reason: failure.message, failure: reportError(failure) };
  }
}

const untouched = ({ pool, host }: Target, broken: string): ReloadResult => ({
  pool: pool.name,
  host: host.name,
  action: 'untouched',
  reason: `not reloaded, since ${broken} failed before it`,
  failure: undefined,
});

function describe({ workers, handshakes }: ReloadOutcome): string {
  const shown =
    handshakes === 0
      ? 'a new worker serves; not verified by handshakes'
      : `a new worker serves; ${handshakes} handshakes present what the files hold`;
  if (workers === undefined || workers.old === 0) return shown;
  const listening = workers.listening.length > 0 ? `, ${workers.listening.length} of which still listen` : '';
  return `${shown}; old workers that serve their connections to the end: ${workers.old}${listening}`;
}

function noReload(targets: readonly Target[]): KacmeError {
  const pools = [...new Set(targets.map(({ pool }) => pool.name))].join(', ');
  return new KacmeError('ERR_HAPROXY_RELOAD', `reload: no way to reload is configured for pools ${pools}`, {
    retry: 'never',
    remedy: 'set pools.NAME.reload to masterSocket, or to { command: [...] }',
  });
}
