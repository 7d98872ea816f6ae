import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import { PROBLEM_TYPES, type ProblemType, problemTypeOf } from './problem-types.ts';

const ACME_ERROR = 'urn:ietf:params:acme:error:';

const UNKNOWN: Treatment = {
  retry: 'later',
  remedy: "do what the CA's words ask for; if they ask for nothing, ask the CA",
};

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

export interface ProblemContext {
  /** What was asked, such as `newOrder https://ca.example/order`. */
  readonly request: string;
  readonly url: string;
  readonly status: number;
  /** From Retry-After. */
  readonly notBefore: Date | undefined;
  /** URL of the CA's terms: from its answer (RFC 8555 section 7.3.3), else from its directory. */
  readonly termsOfService: string | undefined;
}

type Treatment = Pick<ProblemType, 'retry' | 'remedy' | 'code'>;

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
      `${describeRefusal(problem, context)}: ${describeProblem(problem)}${consequence}`,
      {
        retry: treatment.retry,
        problems: context.status >= 500 ? ['serverInternal'] : problemTypes(problem),
        remedy: treatment.remedy,
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
      PROBLEM_TYPES.rateLimited,
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
  return new AcmeProblemError(problem, context, treatmentOf(problem, context));
}

/** Such as `newOrder https://ca.example/order refused by the CA with HTTP 403, since CAA records forbid it to issue`. */
function describeRefusal({ type }: Problem, { request, status }: ProblemContext): string {
  const meaning = problemTypeOf(type)?.meaning;
  return `${request} refused by the CA with HTTP ${status}${meaning === undefined ? '' : `, since ${meaning}`}`;
}

function treatmentOf(problem: Problem, context: ProblemContext): Treatment {
  if (problem.type === 'userActionRequired') return userActionRequired(problem, context);
  const own = problemTypeOf(problem.type) ?? (context.status >= 500 ? PROBLEM_TYPES.serverInternal : UNKNOWN);
  const { subproblems } = problem;
  const each = subproblems.flatMap(({ type }) => problemTypeOf(type) ?? []);
  if (each.length === 0) return own;
  // One identifier that never will be in the order keeps all of it from being.
  const retry = each.some((treatment) => treatment.retry === 'never') ? 'never' : own.retry;
  return { ...own, retry, remedy: remedyByIdentifier(subproblems) };
}

/** Each remedy once, after the identifiers that it is for. */
function remedyByIdentifier(subproblems: readonly Subproblem[]): string {
  const identifiers = new Map<string, string[]>();
  for (const { type, identifier } of subproblems) {
    const remedy = problemTypeOf(type)?.remedy ?? UNKNOWN.remedy;
    const named = identifier === undefined ? [] : [identifier];
    identifiers.set(remedy, [...(identifiers.get(remedy) ?? []), ...named]);
  }
  return Array.from(identifiers, ([remedy, names]) =>
    names.length === 0 ? remedy : `${names.join(', ')}: ${remedy}`,
  ).join('; ');
}

/** RFC 8555 section 7.3.3: the terms changed, and `instance` is where to agree to them. */
function userActionRequired({ instance }: Problem, { termsOfService }: ProblemContext): Treatment {
  const steps = [
    ...(termsOfService === undefined ? [] : [`read the CA's terms of service, ${termsOfService}`]),
    instance === undefined ? 'agree to what the CA asks for' : `agree to what the CA asks for at ${instance}`,
    'run kacme renew',
  ];
  return { retry: 'never', code: 'ERR_ACME_TERMS', remedy: steps.join(', then ') };
}
