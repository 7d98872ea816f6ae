import { KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { drawRenewAt } from '../domain/renewal.ts';
import type { FormerBundle } from '../domain/rollback.ts';
import type { CertificateFacts } from '../domain/x509.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { Condition, Transaction, Versioned } from '../ports/state-store.ts';
import { activeBundle, leafFacts, nextGeneration, supersededBeyond } from './bundle-history.ts';
import type { AppDeps } from './deps.ts';
import { type Desired, DesiredBundles } from './desired-bundles.ts';
import { OwnCertificates } from './own-certificates.ts';
import {
  type BundleRecord,
  bundleRecord,
  type CertificateRecord,
  certIDOfBundle,
  certificateRecord,
  listRecords,
  loadRecord,
  type RevocationRecord,
  renewalInfoRecord,
  revocationRecord,
} from './records.ts';
import { RevokedBundles } from './revoked.ts';

/** Writes that must happen together with a new generation. */
export interface AlongWith {
  readonly conditions?: readonly Condition[];
  readonly puts?: Transaction['puts'];
  readonly deletes?: readonly string[];
  /** Certificates that hosts may hold and that count as kacme's own from now on, though no key of them is kept. */
  readonly alsoOwn?: readonly CertificateFacts[];
}

type Made = Pick<BundleRecord, 'chainPem' | 'keyPem' | 'origin' | 'issuer'> & { readonly reason: string };

/** How long a bootstrap certificate lasts: long enough for a CA that cannot be reached for a season. */
const SELF_SIGNED_MS = 90 * 86_400_000;

type BundlesDeps = Pick<AppDeps, 'store' | 'clock' | 'random' | 'pki' | 'log'>;

/** The bundles of each certificate, and which one is active: the desired state of every deployment. */
export class Bundles {
  readonly #deps: BundlesDeps;
  readonly #keep: number;
  readonly #own: OwnCertificates;
  readonly #desired: DesiredBundles;

  /** `keep`: superseded bundles whose keys are kept, per certificate. */
  constructor(keep: number, deps: BundlesDeps) {
    this.#keep = keep;
    this.#deps = deps;
    this.#own = new OwnCertificates(deps);
    this.#desired = new DesiredBundles({ ...deps, own: this.#own });
  }

  async record(
    certificate: string,
    options: { signal: AbortSignal },
  ): Promise<Versioned<CertificateRecord> | undefined> {
    return loadRecord(this.#deps.store, certificateRecord, certificate, options);
  }

  /** The active bundle; undefined when the certificate has none yet, or it was taken out of the store. */
  async active(certificate: string, options: { signal: AbortSignal }): Promise<BundleRecord | undefined> {
    return activeBundle(
      this.#deps.store,
      (await this.record(certificate, options))?.value,
      certificate,
      options,
    );
  }

  /** What the certificate's deployments should hold; undefined when it has no bundle yet. */
  async desired(spec: CertificateSpec, options: { signal: AbortSignal }): Promise<Desired | undefined> {
    return this.#desired.of(spec, options);
  }

  /** Makes the self-signed bundle of a certificate that holds none, or none that is still good. */
  async ensureSelfSigned(
    spec: CertificateSpec,
    options: EffectOptions,
  ): Promise<{ created: boolean; reason: string }> {
    const { clock, pki, store } = this.#deps;
    const now = clock.now();
    const basis = await this.record(spec.name, options);
    const active = await activeBundle(store, basis?.value, spec.name, options);
    const reason = selfSignedNeed(spec, active, now);
    if (reason === undefined) {
      const held = active?.origin === 'self-signed' ? 'a self-signed certificate' : "a CA's certificate";
      return { created: false, reason: `holds ${held} until ${active?.notAfter}` };
    }
    const keyPem = await pki.generateKey(spec.key);
    const notAfter = new Date(now.getTime() + SELF_SIGNED_MS);
    const chainPem = await pki.selfSign({ keyPem, identifiers: spec.identifiers, notBefore: now, notAfter });
    try {
      const made = { chainPem, keyPem, origin: 'self-signed', issuer: undefined, reason } as const;
      await this.#activateOn(basis, spec, made, {}, options);
      return { created: true, reason };
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CONFLICT') throw error;
      // Another bundle came while the key was made: it may be a better one.
      return this.ensureSelfSigned(spec, options);
    }
  }

  /** Makes `chainPem` the next generation of its certificate, in one transaction with what goes `alongWith` it. */
  async activate(
    spec: CertificateSpec,
    made: Made,
    alongWith: AlongWith,
    options: EffectOptions,
  ): Promise<void> {
    await this.#activateOn(await this.record(spec.name, options), spec, made, alongWith, options);
  }

  /**
   * Every bundle in the certificate's history, the active one among them. What is damaged in the store counts as not
   * held.
   */
  async former(certificate: string, options: { signal: AbortSignal }): Promise<readonly FormerBundle[]> {
    const record = await this.record(certificate, options);
    const history = record?.value.history ?? [];
    const revoked = await RevokedBundles.load(this.#deps.store, options);
    return Promise.all(
      history.map(async ({ bundle: id, generation, state, origin, notAfter }) => {
        const held = await this.#readable([certificate, id], options);
        return {
          id,
          generation,
          // What is to be revoked must not come back either.
          state: revoked.objectionTo(held ?? { id }) !== undefined ? ('revoked' as const) : state,
          origin,
          notAfter: new Date(notAfter),
          held: held && { identifiers: held.identifiers, issuedAt: new Date(held.issuedAt) },
        };
      }),
    );
  }

  /** What is revoked, and what is to be, by bundle. */
  async revocations(
    certificate: string,
    options: { signal: AbortSignal },
  ): Promise<ReadonlyMap<string, RevocationRecord>> {
    const records = await listRecords(this.#deps.store, revocationRecord, [certificate], options);
    return new Map(records.map(({ key, value }) => [key.slice(key.lastIndexOf('/') + 1), value]));
  }

  /** Stores that a bundle is to be revoked, or is: then no host gets it any more. */
  async putRevocation(
    { certificate, id }: Pick<BundleRecord, 'certificate' | 'id'>,
    revocation: RevocationRecord,
    options: EffectOptions,
  ): Promise<void> {
    const { store } = this.#deps;
    const held = await this.record(certificate, options);
    const stored = await loadRecord(store, revocationRecord, [certificate, id], options);
    const key = revocationRecord.key(certificate, id);
    const history = held?.value.history.map((entry) =>
      entry.bundle === id && revocation.revokedAt !== undefined
        ? { ...entry, state: 'revoked' as const }
        : entry,
    );
    const own = certificateRecord.key(certificate);
    const puts = [{ key, value: revocationRecord.serialize(revocation) }];
    if (held !== undefined && history !== undefined)
      puts.push({ key: own, value: certificateRecord.serialize({ ...held.value, history }) });
    const conditions = [
      { key, revision: stored?.revision ?? 0 },
      { key: own, revision: held?.revision ?? 0 },
    ];
    try {
      await this.#write({ conditions, puts, deletes: [] }, options);
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CONFLICT') throw error;
      // A successor was made active meanwhile: what is revoked stays revoked.
      await this.putRevocation({ certificate, id }, revocation, options);
    }
  }

  /** Takes back what `putRevocation` stored of a bundle that is not revoked; `before` is what was stored until then. */
  async resetRevocation(
    { certificate, id }: Pick<BundleRecord, 'certificate' | 'id'>,
    before: RevocationRecord | undefined,
    options: EffectOptions,
  ): Promise<void> {
    const key = revocationRecord.key(certificate, id);
    const puts = before === undefined ? [] : [{ key, value: revocationRecord.serialize(before) }];
    const deletes = before === undefined ? [key] : [];
    await this.#write({ conditions: [], puts, deletes }, options);
  }

  /** Makes a bundle that is still held the next generation of its certificate. Throws `ERR_STORE_CONFLICT`. */
  async activateAgain(
    spec: CertificateSpec,
    { id, reason }: { readonly id: string; readonly reason: string },
    alongWith: AlongWith,
    options: EffectOptions,
  ): Promise<void> {
    const held = await this.record(spec.name, options);
    const bundle = await loadRecord(this.#deps.store, bundleRecord, [spec.name, id], options);
    if (bundle === undefined) throw new RangeError('only a bundle that is held is activated again');
    await this.#makeActive(held, spec, { bundle: bundle.value, reason }, alongWith, options);
  }

  /** Throws `ERR_STORE_CONFLICT` if the certificate's record is not `held` any more. */
  async #activateOn(
    held: Versioned<CertificateRecord> | undefined,
    spec: CertificateSpec,
    made: Made,
    alongWith: AlongWith,
    options: EffectOptions,
  ): Promise<void> {
    const { clock, random } = this.#deps;
    const { reason, ...material } = made;
    const facts = leafFacts(made.chainPem);
    const now = clock.now();
    const bundle: BundleRecord = {
      ...material,
      certificate: spec.name,
      id: facts.fingerprint256,
      certID: certIDOfBundle(made),
      identifiers: [...facts.identifiers],
      notBefore: facts.notBefore.toISOString(),
      notAfter: facts.notAfter.toISOString(),
      renewAt: drawRenewAt(facts.notBefore, facts.notAfter, now, random.uniform()).toISOString(),
      issuedAt: now.toISOString(),
    };
    await this.#makeActive(held, spec, { bundle, reason }, alongWith, options);
  }

  async #write(transaction: Transaction, options: EffectOptions): Promise<void> {
    await this.#desired.changing(() => this.#deps.store.transact(transaction, options));
  }

  async #makeActive(
    held: Versioned<CertificateRecord> | undefined,
    spec: CertificateSpec,
    { bundle, reason }: { readonly bundle: BundleRecord; readonly reason: string },
    alongWith: AlongWith,
    options: EffectOptions,
  ): Promise<void> {
    const { clock, log } = this.#deps;
    await this.#assertFit(bundle, options);
    const facts = leafFacts(bundle.chainPem);
    const record = nextGeneration(held?.value, bundle, facts, clock.now(), alongWith.alsoOwn);
    const key = certificateRecord.key(spec.name);
    await this.#write(
      {
        conditions: [{ key, revision: held?.revision ?? 0 }, ...(alongWith.conditions ?? [])],
        puts: [
          { key: bundleRecord.key(spec.name, bundle.id), value: bundleRecord.serialize(bundle) },
          { key, value: certificateRecord.serialize(record) },
          ...(alongWith.puts ?? []),
        ],
        deletes: [
          renewalInfoRecord.key(spec.name),
          ...(alongWith.deletes ?? []),
          ...(await this.#surplus(spec.name, held?.value, record, options)),
        ],
      },
      options,
    );
    log.info(
      {
        certificate: spec.name,
        generation: record.generation,
        fingerprint256: bundle.id,
        origin: bundle.origin,
        notAfter: bundle.notAfter,
        renewAt: bundle.renewAt,
        reason,
      },
      'bundle activated',
    );
    this.#own.learn(facts, ...(alongWith.alsoOwn ?? []));
  }

  /** Throws `ERR_CERTIFICATE_UNUSABLE` for what is revoked or to be, or has a compromised key. */
  async #assertFit(bundle: BundleRecord, options: { signal: AbortSignal }): Promise<void> {
    const revoked = await RevokedBundles.load(this.#deps.store, options);
    const objection = revoked.objectionTo(bundle);
    if (objection !== undefined) throw unfit(bundle, objection);
  }

  async #readable(
    id: [certificate: string, id: string],
    options: { signal: AbortSignal },
  ): Promise<BundleRecord | undefined> {
    try {
      return (await loadRecord(this.#deps.store, bundleRecord, id, options))?.value;
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CORRUPT') throw error;
      return undefined;
    }
  }

  /** Keys of bundles beyond the kept number are destroyed; their fingerprints stay in the history. */
  async #surplus(
    certificate: string,
    before: CertificateRecord | undefined,
    after: CertificateRecord,
    options: { signal: AbortSignal },
  ): Promise<readonly string[]> {
    // Whoever revokes needs the certificate, and perhaps its key.
    const revocations = await this.revocations(certificate, options);
    const unwanted = supersededBeyond(this.#keep, before, after).filter((id) => {
      const revocation = revocations.get(id);
      return revocation === undefined || revocation.revokedAt !== undefined;
    });
    const keys = unwanted.map((id) => bundleRecord.key(certificate, id));
    const removable = await Promise.all(keys.map((key) => this.#isRemovable(certificate, key, options)));
    return keys.filter((_, i) => removable[i]);
  }

  /** A damaged one stays for whoever repairs it: nobody needs it now, so it must not block a renewal. */
  async #isRemovable(certificate: string, key: string, options: { signal: AbortSignal }): Promise<boolean> {
    try {
      return (await this.#deps.store.get(key, options)) !== undefined;
    } catch (error) {
      if (reportError(error).code !== 'ERR_STORE_CORRUPT') throw error;
      this.#deps.log.warn({ certificate, err: error }, 'superseded bundle cannot be removed');
      return false;
    }
  }
}

function unfit({ certificate, id }: BundleRecord, objection: string): KacmeError {
  return new KacmeError(
    'ERR_CERTIFICATE_UNUSABLE',
    `${id.slice(0, 16)} is not installed for ${certificate}: ${objection}`,
    // What was issued meanwhile is ordered again, with another key.
    { retry: 'later', remedy: `order a new certificate instead: kacme renew ${certificate} --force` },
  );
}

function selfSignedNeed(
  spec: CertificateSpec,
  active: BundleRecord | undefined,
  now: Date,
): string | undefined {
  if (active === undefined) return 'none held';
  if (active.origin !== 'self-signed') return undefined;
  if (now >= new Date(active.renewAt)) return 'the self-signed bundle is about to expire';
  const uncovered = spec.identifiers.filter((identifier) => !active.identifiers.includes(identifier));
  return uncovered.length === 0 ? undefined : `the self-signed bundle does not cover ${uncovered.join(', ')}`;
}
