import { KacmeError } from '../domain/errors.ts';
import { type Finding, Findings } from '../domain/finding.ts';
import type { CertificateSpec, KacmeConfig } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { CaFacts } from './check-issuers.ts';
import type { Preflight, Reachability, WhileServing } from './preflight.ts';

export interface NamesContext {
  readonly config: KacmeConfig;
  readonly preflight: Preflight;
  /** Undefined when challenges cannot be served now. */
  readonly whileServing: WhileServing | undefined;
  /** By issuer; one that could not be asked is not there. */
  readonly authorities: ReadonlyMap<string, CaFacts>;
}

/** Addresses, the way of http-01 challenges, and CAA records, each identifier once. */
export async function checkNames(
  { config, preflight, whileServing, authorities }: NamesContext,
  options: { signal: AbortSignal },
): Promise<readonly Finding[]> {
  const specs = Object.values(config.certificates);
  const identifiers = [...new Set(specs.flatMap((spec) => spec.identifiers))];
  const resolved = await waitForAll(identifiers.map((identifier) => preflight.resolve(identifier, options)));
  const reachable = resolved.filter(({ failure }) => failure === undefined);
  const tried =
    whileServing === undefined ? undefined : await preflight.tryPaths(reachable, whileServing, options);
  const permissions = await waitForAll(
    identifiers.map((identifier) => checkCaa(identifier, specs, { preflight, authorities }, options)),
  );
  return resolved.flatMap((one, index) => {
    const findings = new Findings('names', one.identifier);
    if (config.challenge.resolvers !== 'off') judgeAddresses(one, findings);
    if (one.failure === undefined) {
      const path = tried?.find(({ identifier }) => identifier === one.identifier);
      judgePath(path, { served: whileServing !== undefined, setting: config.challenge.selfCheck }, findings);
    }
    return [...findings.list, ...(permissions[index] ?? [])];
  });
}

function judgeAddresses({ addresses, doubts, failure }: Reachability, findings: Findings): void {
  if (failure !== undefined) findings.error('dns', failure);
  else if (doubts.length > 0)
    findings.warning('dns', doubts.join('; '), 'see that challenge.resolvers answer for this name');
  else findings.ok('dns', addresses.join(', '));
}

function judgePath(
  path: Reachability | undefined,
  { served, setting }: { served: boolean; setting: KacmeConfig['challenge']['selfCheck'] },
  findings: Findings,
): void {
  if (setting === 'off') {
    findings.warning('http-01', 'not tested: challenge.selfCheck is off', undefined);
  } else if (!served || path === undefined) {
    const remedy = 'ask the kacme that acts, or run this again when its work is done';
    findings.warning('http-01', 'not tested: challenges cannot be served from here now', remedy);
  } else if (path.failure !== undefined) findings.error('http-01', path.failure);
  else if (path.doubts.length > 0)
    findings.warning(
      'http-01',
      path.doubts.join('; '),
      'test it from a machine with IPv6, or trust that it is right',
    );
  else {
    const { via, passes } = setting;
    const where = via === undefined ? `from ${path.addresses.join(', ')}` : `via ${via}`;
    findings.ok('http-01', `a challenge comes back ${where}, ${passes} of ${passes} times`);
  }
}

/** For every issuer that may be asked for the identifier. */
async function checkCaa(
  identifier: string,
  specs: readonly CertificateSpec[],
  { preflight, authorities }: Pick<NamesContext, 'preflight' | 'authorities'>,
  options: { signal: AbortSignal },
): Promise<readonly Finding[]> {
  const concerned = specs.filter((spec) => spec.identifiers.includes(identifier));
  const issuers = [...new Set(concerned.flatMap((spec) => spec.issuers))];
  const findings = new Findings('names', identifier);
  for (const issuer of issuers) {
    const facts = authorities.get(issuer);
    if (facts === undefined) continue;
    const { identities, accountUri } = facts;
    const caaIssuer = { identities, accountUri, validationMethod: 'http-01' };
    const verdict = await preflight.caa(identifier, caaIssuer, options);
    if (verdict === undefined) continue;
    if (verdict instanceof KacmeError) findings.error(`caa ${issuer}`, verdict);
    else if (verdict.verdict === 'undetermined')
      findings.warning(`caa ${issuer}`, verdict.reason, 'the CA decides by what its own resolvers see');
    else findings.ok(`caa ${issuer}`, verdict.reason);
  }
  return findings.list;
}
