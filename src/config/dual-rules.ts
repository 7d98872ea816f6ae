import { familyName, halfName, KEY_FAMILIES } from '../domain/dual.ts';
import { LONGEST_NAME } from './fields.ts';
import type { ConfigPath } from './issue.ts';
import { isMap, listOf, mapOf, type Plain } from './plain.ts';
import type { Mistake } from './tree.ts';

/** Kolla names each of these in one `crt` argument, and configures no second one beside it. */
const KOLLA_PATHS: readonly unknown[] = [
  '/etc/haproxy/certificates/haproxy.pem',
  '/etc/haproxy/certificates/haproxy-internal.pem',
];

/** What makes a certificate of two key types a pair, and its deployments. */
export function dualRules(root: Plain): readonly Mistake[] {
  const certificates = mapOf(root.certificates);
  return [
    ...Object.keys(certificates)
      .filter((name) => isDual(certificates, name))
      .flatMap((name) => nameRules(name, certificates)),
    ...listOf(root.deployments).flatMap((value, index) =>
      deploymentRules(['deployments', index], mapOf(value), certificates),
    ),
  ];
}

/** A value that a dual certificate has two of, where it stands. */
export function valuesPerFamily(value: unknown, at: ConfigPath): { at: ConfigPath; value: unknown }[] {
  if (!isMap(value)) return [{ at, value }];
  return KEY_FAMILIES.map((family) => ({ at: [...at, family], value: value[family] }));
}

const isDual = (certificates: Plain, name: string): boolean => Array.isArray(mapOf(certificates[name]).key);

function nameRules(name: string, certificates: Plain): Mistake[] {
  const mistakes: Mistake[] = [];
  for (const family of KEY_FAMILIES) {
    const half = halfName(name, family);
    const taken = `the ${familyName(family)} half of the dual certificate "${name}" has this name: choose another`;
    if (Object.hasOwn(certificates, half))
      mistakes.push({ path: ['certificates', half], of: 'key', message: taken });
  }
  const longest = Math.max(...KEY_FAMILIES.map((family) => halfName(name, family).length));
  if (longest > LONGEST_NAME) {
    const most = LONGEST_NAME - (longest - name.length);
    const message = `expected at most ${most} characters: the halves of a dual certificate have longer names`;
    mistakes.push({ path: ['certificates', name], of: 'key', message });
  }
  return mistakes;
}

function deploymentRules(at: ConfigPath, deployment: Plain, certificates: Plain): Mistake[] {
  const { certificate } = deployment;
  if (typeof certificate !== 'string' || !Object.hasOwn(certificates, certificate)) return [];
  if (!isDual(certificates, certificate)) return singleRules(at, deployment, certificate);
  const kolla = valuesPerFamily(deployment.path, [...at, 'path']).filter(({ value }) =>
    KOLLA_PATHS.includes(value),
  );
  if (kolla.length > 0) {
    const message = `Kolla's HAProxy loads this path and no second one beside it: the dual certificate "${certificate}" cannot be served there; give it one key type`;
    return kolla.map(({ at }) => ({ path: at, message }));
  }
  return (['path', 'file', 'copies'] as const)
    .filter((key) => deployment[key] !== undefined && !isMap(deployment[key]))
    .map((key) => {
      const value = key === 'copies' ? '[PATH]' : 'PATH';
      const message = `expected { ecdsa: ${value}, rsa: ${value} }: the certificate "${certificate}" is dual, and HAProxy needs a file for each of its key types`;
      return { path: [...at, key], message };
    });
}

function singleRules(at: ConfigPath, deployment: Plain, certificate: string): Mistake[] {
  return (['path', 'file', 'copies'] as const)
    .filter((key) => isMap(deployment[key]))
    .map((key) => {
      const value = key === 'copies' ? 'one list of paths' : 'one path';
      const message = `expected ${value}: the certificate "${certificate}" has one key type; for two, give it key: [ecdsa-p256, rsa-2048]`;
      return { path: [...at, key], message };
    });
}
