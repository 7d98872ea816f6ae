import type { ErrorCode, ErrorReport } from './errors.ts';

/**
 * Whose failure it is, told by who else would meet it. `here`: every CA would fail alike, as with a challenge that
 * cannot be fetched. `issuer`: this CA, this account there, or what this CA does not issue. `unknown`: nothing tells.
 */
export type Fault = 'here' | 'issuer' | 'unknown';

/** What a failed attempt says about the next one. */
export interface FailureVerdict {
  /** The same request would be refused again: an operator must act first. */
  readonly permanent: boolean;
  readonly fault: Fault;
}

/** What is judged of a failure: `problems` are the types of RFC 8555 section 6.7 that the CA gave, in their short form. */
export interface Failure extends Pick<ErrorReport, 'code' | 'retry'> {
  readonly problems: readonly string[];
}

/**
 * A failure that an operator must repair counts as passing when it never left this machine: to look again costs
 * nobody anything, and nothing tells kacme that a file was repaired.
 */
export function judgeFailure(failure: Failure): FailureVerdict {
  const permanent = failure.retry === 'never' && !LOCAL.has(failure.code);
  return { permanent, fault: faultOf(failure) };
}

/**
 * Whether a failure was seen before a CA was asked for anything that it counts: to look again costs nobody anything, and
 * nothing tells kacme that DNS, a route or a file was repaired.
 */
export const isLocal = (code: ErrorCode): boolean => LOCAL.has(code) || PREFLIGHT.has(code);

/** Whether the CA's refusal of an identifier's validation is final: what it found there was wrong, not out of reach. */
export const isFinalRefusal = (problem: string): boolean => FINAL_REFUSALS.has(problem);

const LOCAL: ReadonlySet<ErrorCode> = new Set([
  'ERR_ACME_PROXY',
  'ERR_CONFIG_UNREADABLE',
  'ERR_SECRET_UNREADABLE',
  'ERR_STORE_CONFLICT',
  'ERR_STORE_CORRUPT',
  'ERR_STORE_SCHEMA',
  'ERR_STORE_UNUSABLE',
]);

/** What is found out before an order. */
const PREFLIGHT: ReadonlySet<ErrorCode> = new Set([
  'ERR_CAA_DENIED',
  'ERR_CHALLENGE_UNREACHABLE',
  'ERR_DNS_NO_ADDRESS',
  'ERR_DNS_NO_ANSWER',
  'ERR_DNS_NO_SUCH_NAME',
  'ERR_DNS_SERVER_FAILURE',
]);

const FAULTS: Readonly<Partial<Record<ErrorCode, Fault>>> = {
  ERR_CHALLENGE_UNREACHABLE: 'here',
  ERR_DNS_NO_SUCH_NAME: 'here',
  ERR_DNS_NO_ADDRESS: 'here',
  ERR_DNS_SERVER_FAILURE: 'here',
  ERR_DNS_NO_ANSWER: 'here',
  // Another CA may be permitted.
  ERR_CAA_DENIED: 'issuer',
  // The certificate is issued and waits for the operator: another CA's would waste it.
  ERR_ACME_CHAIN: 'here',
  ERR_STORE_CONFLICT: 'here',
  ERR_STORE_CORRUPT: 'here',
  ERR_STORE_SCHEMA: 'here',
  ERR_STORE_UNUSABLE: 'here',
  // Of what only this issuer needs: its caFile, its eab.
  ERR_CONFIG_UNREADABLE: 'issuer',
  ERR_SECRET_UNREADABLE: 'issuer',
  ERR_ACME_UNREACHABLE: 'issuer',
  ERR_ACME_PROXY: 'issuer',
  ERR_ACME_TIMEOUT: 'issuer',
  ERR_ACME_RATE_LIMITED: 'issuer',
  ERR_RATE_LIMIT_NEAR: 'issuer',
  ERR_ACME_MALFORMED: 'issuer',
  ERR_ACME_PROFILE: 'issuer',
  ERR_ACME_TERMS: 'issuer',
  ERR_ACCOUNT_CLOSED: 'issuer',
  ERR_CERTIFICATE_UNUSABLE: 'issuer',
};

/** What a validation meets on its way to us (RFC 8555 section 8): any other CA goes the same way. */
const ON_THE_WAY: ReadonlySet<string> = new Set(['connection', 'dns', 'incorrectResponse', 'tls']);

/** What a CA may say of an identifier that another CA may issue for. */
const OF_ONE_CA: ReadonlySet<string> = new Set([
  'caa',
  'rateLimited',
  'rejectedIdentifier',
  'serverInternal',
  'unsupportedIdentifier',
]);

const FINAL_REFUSALS: ReadonlySet<string> = new Set([
  'caa',
  'incorrectResponse',
  'rejectedIdentifier',
  'unauthorized',
  'unsupportedIdentifier',
]);

/** Says nothing about who is to blame: what kacme sent, or what the CA makes of it. */
const AMBIGUOUS: ReadonlySet<string> = new Set(['about:blank', 'badNonce', 'malformed']);

function faultOf({ code, problems }: Failure): Fault {
  switch (code) {
    case 'ERR_ACME_AUTHORIZATION':
      return problems.length > 0 && problems.every((type) => OF_ONE_CA.has(type)) ? 'issuer' : 'here';
    case 'ERR_ACME_ORDER':
    case 'ERR_ACME_PROBLEM': {
      const telling = problems.filter((type) => !AMBIGUOUS.has(type));
      if (telling.length === 0) return 'unknown';
      return telling.every((type) => ON_THE_WAY.has(type)) ? 'here' : 'issuer';
    }
    default:
      return FAULTS[code] ?? 'unknown';
  }
}
