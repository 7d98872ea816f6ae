import type { ErrorCode, Retry } from '../domain/errors.ts';

/** What one type of problem means for kacme. */
export interface ProblemType {
  /** Completes "refused by the CA since ..." */
  readonly meaning: string;
  readonly retry: Retry;
  readonly remedy: string;
  /** `ERR_ACME_PROBLEM` when not given. */
  readonly code?: ErrorCode;
}

const BY_HAPROXY =
  'let every name that it gives resolve to HAProxy, and let HAProxy forward /.well-known/acme-challenge/ on port 80 to challenge.listen';
const REPORT =
  'if another issuer takes the same certificate, ask this CA; otherwise report it as a defect of kacme, with this message';

/** Every type of RFC 8555 section 6.7, of RFC 9773 and of draft-ietf-acme-profiles, by its short form. */
export const PROBLEM_TYPES = {
  accountDoesNotExist: {
    meaning: 'it does not know the account',
    retry: 'later',
    remedy:
      'nothing at first: kacme registers its account again at the next order; if it stays, check the directory URL',
  },
  alreadyReplaced: {
    meaning: 'the certificate to be replaced has been replaced already',
    retry: 'later',
    remedy: 'nothing: the next order does without the reference to its predecessor',
  },
  alreadyRevoked: {
    meaning: 'the certificate is revoked already',
    retry: 'never',
    remedy: 'nothing: what was asked for is done; renew the certificate if it is still served',
  },
  badCSR: {
    meaning: 'it does not accept the certificate request',
    retry: 'never',
    remedy: "choose another key type, or correct the certificate's identifiers",
  },
  badNonce: {
    meaning: 'it does not accept the nonce of the request',
    retry: 'now',
    remedy:
      'nothing at first: kacme asks again with a new nonce; if it stays, the front ends of the CA disagree',
  },
  badPublicKey: {
    meaning: 'it does not accept the public key',
    retry: 'never',
    remedy: 'choose another key type that this CA accepts',
  },
  badRevocationReason: {
    meaning: 'it does not allow this reason for a revocation',
    retry: 'never',
    remedy: 'revoke for another reason, or without one',
  },
  badSignatureAlgorithm: {
    meaning: 'it does not support the signature algorithm of the account key',
    retry: 'never',
    remedy: 'give kacme an account key of a type that the CA names in its words',
  },
  caa: {
    meaning: 'CAA records forbid it to issue',
    retry: 'never',
    remedy:
      'allow this CA in the CAA records of the domains it names, or give the certificate another issuer',
  },
  compound: {
    meaning: 'several things are wrong',
    retry: 'later',
    remedy: 'do what the CA says about each identifier',
  },
  connection: {
    meaning: 'its validation could not connect',
    retry: 'later',
    remedy: `open port 80 to the internet, and ${BY_HAPROXY}`,
  },
  dns: {
    meaning: 'its validation met an error of DNS',
    retry: 'later',
    remedy: 'let the authoritative name servers answer for every name it gives (A, AAAA and CAA, and DNSSEC)',
  },
  externalAccountRequired: {
    meaning: 'it registers accounts only for customers it knows',
    retry: 'never',
    remedy: "set the issuer's eab (keyId and hmacKey) to the values that the CA gave you",
  },
  incorrectResponse: {
    meaning: 'its validation was answered with something else than kacme serves',
    retry: 'later',
    remedy: BY_HAPROXY,
  },
  invalidContact: {
    meaning: 'it cannot use a contact of the account',
    retry: 'never',
    remedy: "correct the issuer's contact, such as mailto:ops@example.org",
  },
  /** draft-ietf-acme-profiles section 5. */
  invalidProfile: {
    meaning: 'it does not know or not allow the profile',
    retry: 'never',
    code: 'ERR_ACME_PROFILE',
    remedy:
      "set the profile of the certificate or of its issuer to one that the CA's words allow, or remove it",
  },
  malformed: { meaning: 'it does not understand the request', retry: 'later', remedy: REPORT },
  orderNotReady: {
    meaning: 'the order is not ready to be finalized',
    retry: 'later',
    remedy:
      'nothing at first: kacme looks at the order again; if it stays, see whether the CA reports an outage',
  },
  rateLimited: {
    meaning: 'a limit of it is reached',
    retry: 'later',
    code: 'ERR_ACME_RATE_LIMITED',
    remedy:
      'wait: kacme does not ask before that; to stay below the limit, order fewer certificates of the same names',
  },
  rejectedIdentifier: {
    meaning: 'it does not issue for an identifier',
    retry: 'never',
    remedy: 'correct or remove the identifiers it names: the CA does not issue for them',
  },
  serverInternal: {
    meaning: 'it failed inside',
    retry: 'later',
    remedy:
      "nothing on this side: see the CA's status page; if it lasts, add another issuer to the certificate's issuers",
  },
  tls: {
    meaning: 'its validation met an error of TLS',
    retry: 'later',
    remedy: 'see whether the challenge is redirected to https, and whether TLS works there from the internet',
  },
  unauthorized: {
    meaning: 'the account is not allowed to do it, or what was validated does not fit',
    retry: 'never',
    remedy: "check the issuer's account and eab, and what answers at the names: the CA's words say which",
  },
  unsupportedContact: {
    meaning: 'it does not support a contact of that kind',
    retry: 'never',
    remedy: "use a mailto: address as the issuer's contact",
  },
  unsupportedIdentifier: {
    meaning: 'it does not issue for identifiers of that type',
    retry: 'never',
    remedy: 'remove the identifiers it names, or choose an issuer or profile that supports their type',
  },
  userActionRequired: {
    meaning: 'somebody must agree to something first, such as changed terms of service',
    retry: 'never',
    code: 'ERR_ACME_TERMS',
    remedy: 'read what the CA asks for and agree to it, then run kacme renew',
  },
} as const satisfies Readonly<Record<string, ProblemType>>;

const byName: Readonly<Record<string, ProblemType>> = PROBLEM_TYPES;

/** Undefined for a type that no RFC knows. */
export const problemTypeOf = (type: string): ProblemType | undefined =>
  Object.hasOwn(byName, type) ? byName[type] : undefined;
