import { type AdoptionCandidate, decideAdoption } from '../domain/adoption.ts';
import { keyFamilyOf } from '../domain/dual.ts';
import { KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec, IssuerSpec, KacmeConfig } from '../domain/model.ts';
import type { AccountAdoption, AdoptionProblem, CertificateResult } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import { readBundlePem, splitBundlePem } from '../domain/x509.ts';
import type { FoundAccount, FoundBundle } from '../ports/adoption-source.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AdoptionOrigin } from '../ports/service.ts';
import type { Accounts } from './accounts.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Fleet } from './fleet.ts';
import { familyHeld } from './renewal-planner.ts';
import { RevokedBundles } from './revoked.ts';

/** A bundle that was found, judged once for all certificates. */
interface Candidate extends AdoptionCandidate {
  readonly bundle: FoundBundle;
}

interface Found {
  readonly candidates: readonly Candidate[];
  readonly accounts: readonly FoundAccount[];
  readonly problems: readonly AdoptionProblem[];
}

interface AdoptOptions {
  readonly signal: AbortSignal;
  /** Undefined: only tells what would be done. */
  readonly effects: EffectOptions | undefined;
  /** What cannot be taken over is a failure. */
  readonly complete: boolean;
}

export interface AdoptionParts {
  readonly bundles: Bundles;
  readonly accounts: Accounts;
  readonly fleet: Fleet;
}

/** Takes over certificates and accounts that were issued before kacme came, so that none is ordered anew. */
export class Adoption {
  readonly #config: KacmeConfig;
  readonly #bundles: Bundles;
  readonly #accounts: Accounts;
  readonly #fleet: Fleet;
  readonly #deps: AppDeps;

  constructor(config: KacmeConfig, { bundles, accounts, fleet }: AdoptionParts, deps: AppDeps) {
    this.#config = config;
    this.#bundles = bundles;
    this.#accounts = accounts;
    this.#fleet = fleet;
    this.#deps = deps;
  }

  /** Throws `ERR_ADOPTION_SOURCE` when the directory tells nothing at all. */
  async find(
    origin: AdoptionOrigin,
    specs: readonly CertificateSpec[],
    { signal }: { signal: AbortSignal },
  ): Promise<Found> {
    if (origin.from === 'hosts') {
      const { bundles, problems } = await this.#onHosts(specs, { signal });
      return { candidates: await this.#judge(bundles, { signal }), accounts: [], problems };
    }
    const found = await this.#deps.readForeignDirectory(origin.from, origin.directory, { signal });
    return {
      candidates: await this.#judge(found.bundles, { signal }),
      accounts: found.accounts,
      problems: found.problems.map((problem) => ({ ...problem, failure: undefined })),
    };
  }

  async #judge(
    found: readonly FoundBundle[],
    options: { signal: AbortSignal },
  ): Promise<readonly Candidate[]> {
    const revoked = await RevokedBundles.load(this.#deps.store, options);
    return found.map((bundle) => {
      const judgement = readBundlePem(bundle.pem);
      const objection =
        judgement.state === 'loadable'
          ? revoked.objectionTo({
              id: judgement.facts.fingerprint256,
              keyPem: splitBundlePem(bundle.pem).keyPem,
            })
          : undefined;
      return { where: bundle.where, judgement, objection, bundle };
    });
  }

  async adopt(
    spec: CertificateSpec,
    candidates: readonly Candidate[],
    { signal, effects, complete }: AdoptOptions,
  ): Promise<CertificateResult> {
    const certificate = spec.name;
    try {
      const active = await this.#bundles.active(certificate, { signal });
      const revoked = await RevokedBundles.load(this.#deps.store, { signal });
      const held = active && {
        origin: active.origin,
        identifiers: active.identifiers,
        notAfter: new Date(active.notAfter),
        family: familyHeld(spec, active),
        unfit: revoked.objectionTo(active),
      };
      const family = spec.dualOf === undefined ? undefined : keyFamilyOf(spec.key);
      const request = { identifiers: spec.identifiers, family, held, candidates };
      const decision = decideAdoption(request, this.#deps.clock.now());
      const { reason } = decision;
      if (decision.action === 'decline' && complete) throw incomplete(spec, reason);
      if (decision.action !== 'adopt') return { certificate, action: 'kept', reason, failure: undefined };
      if (effects === undefined) return { certificate, action: 'planned', reason, failure: undefined };
      const { pem, caUrl } = decision.candidate.bundle;
      const issuer = issuerAt(caUrl, spec, this.#config.issuers);
      await this.#bundles.activate(
        spec,
        { ...splitBundlePem(pem), origin: 'adopted', issuer, reason },
        { alsoOwn: decision.others },
        effects,
      );
      return { certificate, action: 'adopted', reason, failure: undefined };
    } catch (error) {
      const failure = reportError(expectedFailure(error, effects ?? { signal }));
      return { certificate, action: 'failed', reason: failure.message, failure };
    }
  }

  /** Each issuer that has no account yet gets the first of those found at its CA that the CA knows. */
  async adoptAccounts(
    found: readonly FoundAccount[],
    { signal, effects }: Omit<AdoptOptions, 'complete'>,
  ): Promise<readonly AccountAdoption[]> {
    const results = await waitForAll(
      Object.values(this.#config.issuers).map(async (issuer) => {
        const there = found.filter(({ url }) => isAt(url, issuer));
        const outcomes: AccountAdoption[] = [];
        for (const account of there) {
          if (outcomes.some(({ action }) => action === 'adopted' || action === 'planned')) break;
          outcomes.push(await this.#adoptAccount(issuer.name, account, { signal, effects }));
        }
        return outcomes;
      }),
    );
    return results.flat();
  }

  async #adoptAccount(
    issuer: string,
    { where, keyPem }: FoundAccount,
    { signal, effects }: Omit<AdoptOptions, 'complete'>,
  ): Promise<AccountAdoption> {
    const told = { issuer, where, failure: undefined };
    const recover = { action: 'recover', issuer, keyPem, replace: false } as const;
    try {
      if (effects === undefined) {
        const known = await this.#accounts.rehearseRecovery(recover, { signal });
        return known.held
          ? { ...told, action: 'kept', reason: `kacme has ${known.url}` }
          : { ...told, action: 'planned', reason: known.url };
      }
      const { done } = await this.#accounts.change(recover, effects);
      return { ...told, action: 'adopted', reason: done };
    } catch (error) {
      const failure = reportError(expectedFailure(error, effects ?? { signal }));
      if (failure.code === 'ERR_ACCOUNT_EXISTS') return { ...told, action: 'kept', reason: failure.message };
      return { ...told, action: 'failed', reason: failure.message, failure };
    }
  }

  async #onHosts(
    specs: readonly CertificateSpec[],
    options: { signal: AbortSignal },
  ): Promise<{ readonly bundles: readonly FoundBundle[]; readonly problems: readonly AdoptionProblem[] }> {
    const names = specs.map(({ name }) => name);
    const bundles: FoundBundle[] = [];
    const problems: AdoptionProblem[] = [];
    await waitForAll(
      this.#fleet.targets({ certificates: names }).map(async ({ pool, host, deployments }) => {
        const where = `${pool.name}/${host.name}`;
        const wanted = deployments.filter(({ certificate }) => names.includes(certificate));
        try {
          for (const { file } of wanted) {
            const pem = await this.#deps.hosts.host(pool, host).readBundle(file, options);
            if (pem !== undefined) bundles.push({ where: `${file} on ${where}`, pem, caUrl: undefined });
          }
        } catch (error) {
          const failure = reportError(expectedFailure(error, options));
          problems.push({ where, reason: failure.message, failure });
        }
      }),
    );
    return { bundles, problems };
  }
}

function incomplete({ name }: CertificateSpec, reason: string): KacmeError {
  return new KacmeError('ERR_ADOPTION_INCOMPLETE', `certificate ${name} cannot be taken over: ${reason}`, {
    retry: 'never',
    remedy: `configure the identifiers that it was issued for, and add others later; or leave ${name} out, and kacme orders it`,
  });
}

/** The one issuer of the certificate that is at this CA; undefined when none or several are. */
function issuerAt(
  url: string | undefined,
  { issuers }: CertificateSpec,
  known: Readonly<Record<string, IssuerSpec>>,
): string | undefined {
  const [issuer, ...others] = issuers.filter((name) => isAt(url, known[name]));
  return others.length === 0 ? issuer : undefined;
}

function isAt(url: string | undefined, issuer: IssuerSpec | undefined): boolean {
  if (url === undefined || issuer === undefined || !URL.canParse(url)) return false;
  return new URL(url).origin === new URL(issuer.directory).origin;
}
