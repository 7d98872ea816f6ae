import { halfName, keyFamilyOf } from '../domain/dual.ts';
import { KacmeError } from '../domain/errors.ts';
import type { CertificateSpec, HostSpec, IssuerSpec, KacmeConfig, PoolSpec } from '../domain/model.ts';

/**
 * The certificates that an operator named; every one for none. A dual one is named by its configured name, or one half of
 * it with the key family behind that (`external-rsa`). Throws `ERR_UNKNOWN_NAME`.
 */
export function certificatesNamed(config: KacmeConfig, names: readonly string[]): readonly CertificateSpec[] {
  const all = Object.values(config.certificates);
  if (names.length === 0) return all;
  const named = names.flatMap((name) => {
    const found = all.filter((spec) => isNamed(spec, name));
    if (found.length === 0) {
      const known = all.map((spec) => spec.dualOf ?? spec.name);
      throw unknownName('certificate', name, [...new Set(known)]);
    }
    return found;
  });
  return [...new Set(named)];
}

/** The half that keeps the configured name of a dual certificate is not named alone by it. */
function isNamed({ name, dualOf, key }: CertificateSpec, given: string): boolean {
  if (dualOf === undefined) return given === name;
  return given === dualOf || given === halfName(dualOf, keyFamilyOf(key));
}

/** The issuers that an operator named; every one for none. Throws `ERR_UNKNOWN_NAME`. */
export function issuersNamed({ issuers }: KacmeConfig, names: readonly string[]): readonly IssuerSpec[] {
  if (names.length === 0) return Object.values(issuers);
  return names.map((name) => {
    const spec = Object.hasOwn(issuers, name) ? issuers[name] : undefined;
    if (spec === undefined) throw unknownName('issuer', name, Object.keys(issuers));
    return spec;
  });
}

/** Throws `ERR_UNKNOWN_NAME` unless something is deployed to a pool of this name. */
export function assertPoolNamed({ deployments }: KacmeConfig, name: string): void {
  const known = [...new Set(deployments.map(({ pool }) => pool))];
  if (!known.includes(name)) throw unknownName('pool', name, known);
}

/**
 * Throws `ERR_UNKNOWN_NAME` unless something is deployed to a host of this name. Without `hostsOf` nothing is known of
 * the hosts that are discovered: then a name that may be one of theirs passes.
 */
export function assertHostNamed(
  { pools, deployments }: KacmeConfig,
  name: string,
  hostsOf?: (pool: PoolSpec) => readonly HostSpec[],
): void {
  const deployedTo = new Set(deployments.map(({ pool }) => pool));
  const hosts = Object.values(pools).filter((pool) => deployedTo.has(pool.name));
  if (hostsOf === undefined && hosts.some(({ discovery }) => discovery !== undefined)) return;
  const known = new Set(hosts.flatMap((pool) => (hostsOf?.(pool) ?? pool.hosts).map((host) => host.name)));
  if (!known.has(name)) throw unknownName('host', name, [...known]);
}

/** Enough to see what names look like here. */
const NAMES_SHOWN = 20;

/** `ERR_UNKNOWN_NAME`; `which` narrows the kind, as in "host that SSH leads to". */
export function unknownName(kind: string, name: string, known: readonly string[], which = ''): KacmeError {
  const more = known.length > NAMES_SHOWN ? ` and ${known.length - NAMES_SHOWN} more` : '';
  return new KacmeError(
    'ERR_UNKNOWN_NAME',
    `there is no ${kind} named ${name} in the configuration${which && `, ${which}`}`,
    {
      retry: 'never',
      remedy: `name one of: ${known.slice(0, NAMES_SHOWN).join(', ')}${more}`,
    },
  );
}
