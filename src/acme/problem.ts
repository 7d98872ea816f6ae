import * as z from 'zod';
import { type ErrorCode, KacmeError, type Retry } from '../domain/errors.ts';

const ACME_ERROR = 'urn:ietf:params:acme:error:';

/** When a CA limits us and does not say until when, an hour is what its rolling windows are made of. */
const DEFAULT_RATE_LIMIT_PAUSE_MS = 3_600_000;

/** RFC 7807 section 3.1, with the subproblems of RFC 8555 section 6.7.1. */
const problemSchema = z.object({
  type: z.string().default('about:blank'),
  title: z.string().optional(),
  detail: z.string().optional(),
  instance: z.string().optional(),
  subproblems: z
    .array(
      z.object({
        type: z.string().default('about:blank'),
        detail: z.string().optional(),
        identifier: z.object({ type: z.string(), value: z.string() }).optional(),
      }),
    )
    .optional(),
});

/** A problem document; `type` is its short form, such as `rateLimited`, where it is one of RFC 8555's. */
export interface Problem {
  readonly type: string;
  readonly detail: string;
  /** Where a person must act or can read more. */
  readonly instance: string | undefined;
  readonly subproblems: readonly Subproblem[];
}

export interface Subproblem {
  readonly type: string;
  readonly detail: string;
  readonly identifier: string | undefined;
}

/** Undefined when `document` is not a problem document. */
export function readProblem(document: unknown): Problem | undefined {
  const parsed = problemSchema.safeParse(document);
  if (!parsed.success) return undefined;
  const { type, title, detail, instance, subproblems = [] } = parsed.data;
  if (type === 'about:blank' && title === undefined && detail === undefined) return undefined;
  return {
    type: shortType(type),
    detail: detail ?? title ?? 'no detail given',
    instance,
    subproblems: subproblems.map((sub) => ({
      type: shortType(sub.type),
      detail: sub.detail ?? 'no detail given',
      identifier: sub.identifier?.value,
    })),
  };
}

const shortType = (type: string): string =>
  type.startsWith(ACME_ERROR) ? type.slice(ACME_ERROR.length) : type;

/** The CA's own words on one line, each identifier's after the whole. */
export function describeProblem({ type, detail, subproblems }: Problem): string {
  const each = subproblems.map((sub) => `${sub.identifier ?? 'request'}: ${sub.detail} (${sub.type})`);
  return [`${detail} (${type})`, ...each].join('; ');
}

/** Those of the identifiers where there are any: they say more than that of the whole. */
export function problemTypes({ type, subproblems }: Problem): readonly string[] {
  return subproblems.length > 0 ? subproblems.map((sub) => sub.type) : [type];
}

interface Treatment {
  readonly retry: Retry;
  readonly code?: ErrorCode;
  readonly remedy?: string;
}

/** What each type of RFC 8555 section 6.7 means for kacme; whatever is not here may pass by itself. */
const TREATMENTS: Readonly<Record<string, Treatment>> = {
  badNonce: { retry: 'now' },
  accountDoesNotExist: {
    retry: 'later',
    remedy:
      'nothing at first: kacme registers its account again at the next order; if it stays, check the directory URL',
  },
  badCSR: { retry: 'never', remedy: "choose another key type, or correct the certificate's identifiers" },
  badPublicKey: { retry: 'never', remedy: 'choose another key type that this CA accepts' },
  caa: {
    retry: 'never',
    remedy:
      'allow this CA in the CAA records of the domains it names, or give the certificate another issuer',
  },
  externalAccountRequired: {
    retry: 'never',
    remedy: "set the issuer's eab (keyId and hmacKey) to the values that the CA gave you",
  },
  /** draft-ietf-acme-profiles section 5. */
  invalidProfile: {
    retry: 'never',
    code: 'ERR_ACME_PROFILE',
    remedy:
      "set the profile of the certificate or of its issuer to one that the CA's words allow, or remove it",
  },
  invalidContact: { retry: 'never', remedy: "correct the issuer's contact, such as mailto:ops@example.org" },
  rejectedIdentifier: {
    retry: 'never',
    remedy: 'correct or remove the identifiers it names: the CA does not issue for them',
  },
  unauthorized: {
    retry: 'never',
    remedy: "check the issuer's account and eab: the CA knows the request but does not allow it",
  },
  unsupportedContact: { retry: 'never', remedy: "use a mailto: address as the issuer's contact" },
  unsupportedIdentifier: {
    retry: 'never',
    remedy: 'remove the identifiers it names, or choose an issuer or profile that supports their type',
  },
  userActionRequired: {
    retry: 'never',
    code: 'ERR_ACME_TERMS',
    remedy: 'read what the CA asks for and agree to it, then run kacme renew',
  },
};

const CA_IN_TROUBLE: Treatment = {
  retry: 'later',
  remedy:
    "nothing on this side: see the CA's status page; if it lasts, add another issuer to the certificate's issuers",
};

export interface ProblemContext {
  /** What was asked, such as `newOrder https://ca.example/order`. */
  readonly request: string;
  readonly url: string;
  readonly status: number;
  /** From Retry-After. */
  readonly notBefore: Date | undefined;
}

/** The CA refused a request with a problem document (RFC 8555 section 6.7). */
export class AcmeProblemError extends KacmeError {
  override readonly name: string = 'AcmeProblemError';
  readonly type: string;
  readonly detail: string;
  /** HTTP status. */
  readonly status: number;
  readonly url: string;
  readonly subproblems: readonly Subproblem[];
  /** The CA asked not to be asked again before this. */
  readonly notBefore: Date | undefined;

  constructor(problem: Problem, context: ProblemContext, treatment: Treatment, consequence = '') {
    super(
      treatment.code ?? 'ERR_ACME_PROBLEM',
      `${context.request} refused by the CA with HTTP ${context.status}: ${describeProblem(problem)}${consequence}`,
      {
        retry: treatment.retry,
        problems: context.status >= 500 ? ['serverInternal'] : problemTypes(problem),
        ...(treatment.remedy === undefined ? {} : { remedy: treatment.remedy }),
      },
    );
    this.type = problem.type;
    this.detail = problem.detail;
    this.status = context.status;
    this.url = context.url;
    this.subproblems = problem.subproblems;
    this.notBefore = context.notBefore;
  }
}

/** The CA answered `rateLimited` (RFC 8555 section 6.6). */
export class AcmeRateLimitedError extends AcmeProblemError {
  override readonly name = 'AcmeRateLimitedError';
  declare readonly notBefore: Date;

  constructor(problem: Problem, context: ProblemContext & { readonly notBefore: Date }) {
    super(
      problem,
      context,
      {
        code: 'ERR_ACME_RATE_LIMITED',
        retry: 'later',
        remedy:
          'wait: kacme does not ask before that; to stay below the limit, order fewer certificates of the same names',
      },
      `. kacme tries again after ${context.notBefore.toISOString()}`,
    );
  }
}

/** The error for a refusal; `now` gives a rate limit without Retry-After its end. */
export function problemError(problem: Problem, context: ProblemContext, now: Date): AcmeProblemError {
  if (problem.type === 'rateLimited' || context.status === 429) {
    const notBefore = context.notBefore ?? new Date(now.getTime() + DEFAULT_RATE_LIMIT_PAUSE_MS);
    return new AcmeRateLimitedError(problem, { ...context, notBefore });
  }
  const treatment = TREATMENTS[problem.type] ?? (context.status >= 500 ? CA_IN_TROUBLE : { retry: 'later' });
  if (problem.type !== 'userActionRequired' || problem.instance === undefined) {
    return new AcmeProblemError(problem, context, treatment);
  }
  // RFC 8555 section 7.3.3: the terms changed, and `instance` is where to agree to them.
  const remedy = `agree to what the CA asks for at ${problem.instance}, then run kacme renew`;
  return new AcmeProblemError(problem, context, { ...treatment, remedy });
}
