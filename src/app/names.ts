import { KacmeError } from '../domain/errors.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';

/** The certificates that an operator named; every one for none. Throws `ERR_UNKNOWN_NAME`. */
export function certificatesNamed(config: KacmeConfig, names: readonly string[]): readonly CertificateSpec[] {
  const all = config.certificates;
  if (names.length === 0) return Object.values(all);
  return names.map((name) => {
    const spec = Object.hasOwn(all, name) ? all[name] : undefined;
    if (spec === undefined) throw unknownName('certificate', name, Object.keys(all));
    return spec;
  });
}

/** Throws `ERR_UNKNOWN_NAME` unless something is deployed to a host of this name. */
export function assertHostNamed({ pools, deployments }: KacmeConfig, name: string): void {
  const deployedTo = new Set(deployments.map(({ pool }) => pool));
  const hosts = Object.values(pools).filter((pool) => deployedTo.has(pool.name));
  const known = new Set(hosts.flatMap((pool) => pool.hosts.map((host) => host.name)));
  if (!known.has(name)) throw unknownName('host', name, [...known]);
}

/** Enough to see what names look like here. */
const NAMES_SHOWN = 20;

function unknownName(kind: string, name: string, known: readonly string[]): KacmeError {
  const more = known.length > NAMES_SHOWN ? ` and ${known.length - NAMES_SHOWN} more` : '';
  return new KacmeError('ERR_UNKNOWN_NAME', `there is no ${kind} named ${name} in the configuration`, {
    retry: 'never',
    remedy: `name one of: ${known.slice(0, NAMES_SHOWN).join(', ')}${more}`,
  });
}
