import { type Finding, Findings } from '../domain/finding.ts';
import type { CertificateSpec, IssuerSpec, KacmeConfig } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { Authorities } from './authorities.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { assertProfileOffered } from './profile.ts';

/** What CAA records are compared with. */
export interface CaFacts {
  readonly identities: readonly string[];
  readonly accountUri: string | undefined;
}

/** A clock that is further off makes certificates look not valid yet, and signed requests stale. */
const SKEW_FAILED_MS = 300_000;
const SKEW_WARNING_MS = 30_000;

interface IssuersContext {
  readonly config: KacmeConfig;
  readonly authorities: Authorities;
  readonly deps: Pick<AppDeps, 'clock' | 'pki'>;
}

/** Every issuer that some certificate names: directory, clock, terms, account, profiles. Registers nothing. */
export async function checkIssuers(
  context: IssuersContext,
  options: { signal: AbortSignal },
): Promise<{ readonly findings: readonly Finding[]; readonly facts: ReadonlyMap<string, CaFacts> }> {
  const specs = Object.values(context.config.certificates);
  const named = Object.values(context.config.issuers).filter(({ name }) =>
    specs.some(({ issuers }) => issuers.includes(name)),
  );
  const facts = new Map<string, CaFacts>();
  const findings = await waitForAll(
    named.map(async (issuer) => {
      const found = new Findings('issuers', issuer.name);
      try {
        facts.set(issuer.name, await checkIssuer(issuer, specs, context, found, options));
      } catch (error) {
        found.error('directory', expectedFailure(error, options));
      }
      return found.list;
    }),
  );
  return { findings: findings.flat(), facts };
}

async function checkIssuer(
  issuer: IssuerSpec,
  specs: readonly CertificateSpec[],
  { authorities, deps }: IssuersContext,
  findings: Findings,
  options: { signal: AbortSignal },
): Promise<CaFacts> {
  const held = await authorities.records.find(issuer, options);
  // A key of the moment: who has no account needs none to read the directory.
  const keyPem = held?.value.keyPem ?? (await deps.pki.generateKey('ecdsa-p256'));
  const authority = await authorities.connect(issuer, keyPem);
  const { date } = await authority.greet(options);
  findings.ok('directory', issuer.directory);
  judgeClock(date, deps.clock.now(), findings);
  const identities = await authority.caaIdentities(options);
  const attempt = async (check: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      findings.error(check, expectedFailure(error, options));
    }
  };
  await attempt('account', () =>
    checkAccount(issuer, authority, { keyHeld: held !== undefined, url: held?.value.url }, findings, options),
  );
  for (const spec of specs.filter(({ issuers }) => issuers.includes(issuer.name))) {
    const terms = authorities.terms(spec, issuer.name);
    if (terms.profile === undefined) continue;
    const { value } = terms.profile;
    await attempt('profile', async () => {
      await assertProfileOffered(terms, issuer.name, authority, options);
      findings.ok('profile', `${value}, for ${spec.name}`);
    });
  }
  return { identities, accountUri: held?.value.url };
}

function judgeClock(date: Date | undefined, now: Date, findings: Findings): void {
  if (date === undefined) {
    findings.ok('clock', 'the CA does not tell its time');
    return;
  }
  const skewMs = now.getTime() - date.getTime();
  const seconds = Math.round(Math.abs(skewMs) / 1_000);
  const reason = `this machine is ${seconds} s ${skewMs < 0 ? 'behind' : 'ahead of'} the CA`;
  const remedy = 'synchronize the clock of this machine (NTP)';
  if (Math.abs(skewMs) >= SKEW_FAILED_MS) findings.failed('clock', reason, remedy);
  else if (Math.abs(skewMs) >= SKEW_WARNING_MS) findings.warning('clock', reason, remedy);
  else findings.ok('clock', 'as that of the CA');
}

async function checkAccount(
  issuer: IssuerSpec,
  authority: CertificateAuthority,
  { keyHeld, url }: { keyHeld: boolean; url: string | undefined },
  findings: Findings,
  options: { signal: AbortSignal },
): Promise<void> {
  const { termsOfService, externalAccountRequired } = await authority.accountTerms(options);
  if (termsOfService !== undefined && !issuer.termsOfServiceAgreed)
    findings.failed(
      'terms',
      `the CA wants agreement to ${termsOfService}`,
      `read them, then set issuers.${issuer.name}.termsOfServiceAgreed: true`,
    );
  else if (termsOfService !== undefined) findings.ok('terms', `agreed to: ${termsOfService}`);

  const account = keyHeld ? await authority.account(options) : undefined;
  if (account?.status === 'valid') {
    findings.ok('account', account.url ?? url ?? 'valid');
  } else if (account !== undefined) {
    const remedy = `kacme account register ${issuer.name} makes another one`;
    findings.failed('account', `the account is ${account.status} at the CA`, remedy);
  } else if (externalAccountRequired && issuer.eab === undefined) {
    findings.failed(
      'account',
      'the CA binds new accounts to one that you have with it, and eab is not set',
      `set issuers.${issuer.name}.eab to the key that the CA gave you`,
    );
  } else if (url !== undefined) {
    const remedy = 'kacme registers again with its next order';
    findings.warning('account', `the CA does not know the account any more (${url})`, remedy);
  } else findings.ok('account', 'none yet: the first order registers one');
}
