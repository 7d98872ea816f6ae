import { createHash } from 'node:crypto';
import * as z from 'zod';
import { certIdOf } from '../domain/cert-id.ts';
import type { ErrorCode } from '../domain/errors.ts';
import { judgeFailure } from '../domain/failure.ts';
import { REVOCATION_REASONS } from '../domain/revocation.ts';
import { certificatesIn } from '../domain/x509.ts';
import { defineRecord } from './record-kind.ts';

export { listRecords, loadRecord } from './record-kind.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** ISO 8601 in UTC, as `Date.toISOString` writes it. */
const Instant = z.iso.datetime();
/** The same, read as a date. */
const Moment = Instant.transform((text) => new Date(text));
const Generation = z.int().positive();
const Names = z.array(z.string()).readonly();
const Origin = z.enum(['acme', 'self-signed', 'adopted']);

/** Must be given, though it may be undefined: forgetting a field is a type error. */
const maybe = <S extends z.ZodType>(schema: S) => schema.optional().transform((value) => value);

const ErrorReport = z.object({
  code: z.custom<ErrorCode>((code) => typeof code === 'string' && code.startsWith('ERR_')),
  message: z.string(),
  retry: z.enum(['now', 'later', 'never']),
  remedy: z.string().exactOptional(),
});

/** kacme's account at one issuer (RFC 8555 section 7.1.2). `url` is undefined until the CA has answered. */
const Account = z.object({
  keyPem: z.string(),
  url: maybe(z.string()),
  directory: z.string(),
  createdAt: Instant,
  /**
   * The key that the account is changed to (RFC 8555 section 7.3.5), stored before the CA is asked: until it has
   * answered, either may be the account's.
   */
  nextKeyPem: maybe(z.string()),
  /** The operator deactivated it (section 7.3.6) and kacme makes no other; stored before the CA is asked. */
  closed: maybe(z.object({ since: Instant, confirmed: z.boolean() })),
});
export type AccountRecord = z.output<typeof Account>;
/** `account/<issuer>/<hash of the directory>`: an issuer that moves to another CA and back finds its account again. */
export const accountRecord = defineRecord<[issuer: string, directory: string], AccountRecord>({
  name: 'account',
  data: Account,
  // Nothing to add, but an older kacme must not write it back without a key that may be the account's.
  migrations: [(data) => data],
  segments: (issuer, directory) => [issuer, sha256(directory).slice(0, 16)],
});

/** A bundle that hosts may still hold. Entries outlive the keys: by them kacme tells its own from foreign ones. */
const HistoryEntry = z.object({
  bundle: z.string(),
  generation: Generation,
  fingerprint256: z.string(),
  fingerprint1: z.string(),
  state: z.enum(['active', 'superseded', 'revoked']),
  origin: Origin,
  notAfter: Instant,
});

/** What the hosts should hold of one certificate: its generation and the bundle that is active in it. */
const Certificate = z.object({
  generation: Generation,
  active: maybe(z.string()),
  /** When the CA last issued it. */
  lastSuccess: maybe(Instant),
  history: z.array(HistoryEntry).readonly(),
});
export type CertificateRecord = z.output<typeof Certificate>;
/** `certificate/<name>` */
export const certificateRecord = defineRecord<[name: string], CertificateRecord>({
  name: 'certificate',
  data: Certificate,
  migrations: [],
});

/**
 * A bundle that the operator wants to be revoked (RFC 8555 section 7.6), or that is. It outlives the bundle, so that its
 * key is never used again.
 */
const Revocation = z.object({
  reason: z.enum(REVOCATION_REASONS),
  signedBy: z.enum(['account', 'certificate-key']),
  requestedAt: Instant,
  /** Undefined while its successor is brought to the hosts. */
  revokedAt: maybe(Instant),
  /** SHA-256 of its public key, lower-case hex. */
  publicKey: z.string(),
  /** Of attempts to revoke it; not tried again before `notBefore`. */
  failures: z.int().nonnegative(),
  lastFailure: maybe(ErrorReport),
  notBefore: maybe(Instant),
});
export type RevocationRecord = z.output<typeof Revocation>;
/** `revocation/<certificate>/<bundle>` */
export const revocationRecord = defineRecord<[certificate: string, bundle: string], RevocationRecord>({
  name: 'revocation',
  data: Revocation,
  migrations: [],
});

/** One immutable version of a certificate with its key; `id` is its `fingerprint256`. */
const Bundle = z.object({
  certificate: z.string(),
  id: z.string(),
  origin: Origin,
  issuer: maybe(z.string()),
  chainPem: z.string(),
  keyPem: z.string(),
  /** Its name in ARI (RFC 9773 section 4.1); undefined when no CA can be asked about it. */
  certID: maybe(z.string()),
  identifiers: Names,
  notBefore: Instant,
  notAfter: Instant,
  renewAt: Instant,
  issuedAt: Instant,
});
export type BundleRecord = z.output<typeof Bundle>;
/** `bundle/<certificate>/<id>` */
export const bundleRecord = defineRecord<[certificate: string, id: string], BundleRecord>({
  name: 'bundle',
  data: Bundle,
  migrations: [addCertID],
});

function addCertID(data: unknown): unknown {
  const bundle = z.looseObject({ origin: Origin, chainPem: z.string() }).parse(data);
  return { ...bundle, certID: certIDOfBundle(bundle) };
}

/** Undefined for what no CA has issued, and for a leaf without an authority key identifier. */
export function certIDOfBundle({
  origin,
  chainPem,
}: Pick<BundleRecord, 'origin' | 'chainPem'>): string | undefined {
  const leaf = origin === 'self-signed' ? undefined : certificatesIn(chainPem)[0];
  return leaf === undefined ? undefined : certIdOf(leaf.raw);
}

/** What the CA last said about when to renew `bundle`; of no meaning for another one. */
const RenewalInfo = z.object({
  bundle: z.string(),
  suggestion: maybe(
    z.object({
      window: z.object({ start: Instant, end: Instant }),
      renewAt: Instant,
      checkedAt: Instant,
      explanationURL: maybe(z.string()),
    }),
  ),
  nextCheckAt: Instant,
  failures: z.int().nonnegative(),
});
export type RenewalInfoRecord = z.output<typeof RenewalInfo>;
/** `renewal-info/<certificate>` */
export const renewalInfoRecord = defineRecord<[certificate: string], RenewalInfoRecord>({
  name: 'renewal-info',
  data: RenewalInfo,
  migrations: [],
});

/** An operator went back to `bundle`: it is not renewed before `until`. Of no meaning for another bundle. */
const Hold = z.object({ bundle: z.string(), until: Instant });
/** `hold/<certificate>` */
export const holdRecord = defineRecord<[certificate: string], z.output<typeof Hold>>({
  name: 'hold',
  data: Hold,
  migrations: [],
});

/**
 * The in-flight order of a certificate at an issuer, with the key it will be finalized with. Each state is
 * stored before the request it announces; `url` is undefined while it is not known whether newOrder arrived.
 */
const Order = z.object({
  identifiers: Names,
  keyPem: z.string(),
  url: maybe(z.string()),
  state: z.enum(['creating', 'created', 'finalizing']),
  /** As its CA counts it (`domain/rate-limits.ts`), from its beginning to its end. */
  kind: z.enum(['new', 'renewal', 'ari-renewal']),
  challengeTokens: Names,
  createdAt: Instant,
});
export type OrderRecord = z.output<typeof Order>;
/** `order/<certificate>/<issuer>` */
export const orderRecord = defineRecord<[certificate: string, issuer: string], OrderRecord>({
  name: 'order',
  data: Order,
  // Before the ledger nothing was told apart: counted as new, nothing is forgotten.
  migrations: [(data) => ({ ...Object(data), kind: 'new' })],
});

/** What the HTTP-01 server answers for one token (RFC 8555 section 8.3). */
const Challenge = z.object({
  identifier: z.string(),
  keyAuthorization: z.string(),
  createdAt: Instant,
});
export type ChallengeRecord = z.output<typeof Challenge>;
/**
 * `challenge/<SHA-256 of the token>`: tokens have upper case, which keys do not, and whoever asks the HTTP-01
 * server chooses how long they are.
 */
export const challengeRecord = defineRecord<[token: string], ChallengeRecord>({
  name: 'challenge',
  data: Challenge,
  migrations: [],
  segments: (token) => [sha256(token)],
});

/** Failures in a row of a certificate at an issuer; nothing is tried there before `notBefore`. */
const Backoff = z.object({
  failures: z.int().positive(),
  lastFailure: ErrorReport,
  at: Instant,
  notBefore: Instant,
  /** Of the last failure (`domain/failure.ts`). */
  verdict: z.object({ permanent: z.boolean(), fault: z.enum(['here', 'issuer', 'unknown']) }),
  /** Fingerprint of what was asked; another request is not held back. Undefined: any, since it was not told apart. */
  request: maybe(z.string()),
});
export type BackoffRecord = z.output<typeof Backoff>;
/** `backoff/<certificate>/<issuer>` */
export const backoffRecord = defineRecord<[certificate: string, issuer: string], BackoffRecord>({
  name: 'backoff',
  data: Backoff,
  migrations: [addVerdict],
});

/** The types of the CA's problems were not kept: what remains tells less. */
function addVerdict(data: unknown): unknown {
  const backoff = z.looseObject({ lastFailure: ErrorReport }).parse(data);
  return { ...backoff, verdict: judgeFailure({ ...backoff.lastFailure, problems: [] }) };
}

/** That an order for these names succeeded at `staging`, so that the issuer may be asked. */
const Rehearsal = z.object({ staging: z.string(), identifiers: Names, at: Instant });
export type RehearsalRecord = z.output<typeof Rehearsal>;
/** `rehearsal/<certificate>/<issuer>` */
export const rehearsalRecord = defineRecord<[certificate: string, issuer: string], RehearsalRecord>({
  name: 'rehearsal',
  data: Rehearsal,
  migrations: [],
});

/** What a CA has counted of kacme (`domain/rate-ledger.ts`), for all its accounts there. */
const RateLedger = z.object({
  directory: z.string(),
  buckets: z.record(
    z.string(),
    z.object({
      fullAt: Moment,
      reserved: maybe(z.object({ count: z.int().positive(), until: Moment })),
      notBefore: maybe(Moment),
    }),
  ),
});
export type RateLedgerRecord = z.output<typeof RateLedger>;
/** `ledger/<hash of the directory>` */
export const ledgerRecord = defineRecord<[directory: string], RateLedgerRecord>({
  name: 'ledger',
  data: RateLedger,
  migrations: [],
  segments: (directory) => [sha256(directory).slice(0, 16)],
});

/** How far a generation got in a pool: the canary that proved it, or why nobody follows for now. */
const Rollout = z.object({
  generation: Generation,
  provenOn: maybe(z.string()),
  halted: maybe(
    z.object({
      host: z.string(),
      failure: ErrorReport,
      at: Instant,
      until: Instant,
    }),
  ),
  /** How often this generation was halted: each pause is longer than the one before. */
  halts: z.int().nonnegative(),
  /** Hosts that did not verify since it was proven, and do not yet. */
  unverifiedOn: z.array(z.string()),
});
export type RolloutRecord = z.output<typeof Rollout>;
/** `rollout/<pool>/<certificate>` */
export const rolloutRecord = defineRecord<[pool: string, certificate: string], RolloutRecord>({
  name: 'rollout',
  data: Rollout,
  migrations: [addUnverified],
});

/** The count of halts stood with the last one. */
function addUnverified(data: unknown): unknown {
  const { halted, ...rollout } = z
    .looseObject({ halted: maybe(z.looseObject({ failures: z.int().positive() })) })
    .parse(data);
  return { ...rollout, halted, halts: halted?.failures ?? 0, unverifiedOn: [] };
}

/** Changes of one place of a host that failed in a row, and until when none is tried (`domain/change-pause.ts`). */
const Pause = z.object({
  /** For people: the key has its hash. */
  place: z.string(),
  failures: z.int().positive(),
  until: Moment,
  failure: ErrorReport,
  means: z.enum(['swap', 'add', 'reload', 'install']),
  generation: Generation,
});
export type PauseRecord = z.output<typeof Pause>;
/** `pause/<pool>/<hash of host and path>` */
export const pauseRecord = defineRecord<[pool: string, place: string], PauseRecord>({
  name: 'pause',
  data: Pause,
  migrations: [],
  segments: (pool, place) => [pool, sha256(place).slice(0, 32)],
});

/** The hosts of a pool that are learned, as last known; `source` is who named them. */
const Roster = z.object({
  source: z.string(),
  hosts: z
    .array(
      z.object({
        name: z.string(),
        address: z.string(),
        port: z.int().positive(),
        missingSince: maybe(Moment),
      }),
    )
    .readonly(),
});
export type RosterRecord = z.output<typeof Roster>;
/** `roster/<pool>` */
export const rosterRecord = defineRecord<[pool: string], RosterRecord>({
  name: 'roster',
  data: Roster,
  migrations: [],
});
