import { familyName } from './dual.ts';
import type { KeyFamily } from './model.ts';
import type { BundleJudgement, CertificateFacts } from './x509.ts';

export interface AdoptionCandidate {
  readonly where: string;
  readonly judgement: BundleJudgement;
  /** Why it must be on no host, such as its revocation. */
  readonly objection: string | undefined;
}

export interface AdoptionRequest<C extends AdoptionCandidate> {
  /** The configured identifiers, against which coverage is measured. */
  readonly identifiers: readonly string[];
  /** Of half a dual certificate: the only key family that serves there. Undefined: any. */
  readonly family: KeyFamily | undefined;
  /** The active bundle. */
  readonly held:
    | {
        readonly origin: 'acme' | 'self-signed' | 'adopted';
        readonly identifiers: readonly string[];
        readonly notAfter: Date;
        readonly family: KeyFamily | undefined;
        /** Why it must be replaced at once, such as its revocation. */
        readonly unfit: string | undefined;
      }
    | undefined;
  readonly candidates: readonly C[];
}

export type AdoptionDecision<C extends AdoptionCandidate> =
  | {
      readonly action: 'adopt';
      readonly candidate: C;
      /** The others that could have been adopted: what holds one of them is to be brought to the adopted one. */
      readonly others: readonly CertificateFacts[];
      readonly reason: string;
    }
  | { readonly action: 'keep'; readonly reason: string }
  /** Nothing that was found can be taken over, and what is held leaves the certificate to be ordered. */
  | { readonly action: 'decline'; readonly reason: string };

/**
 * Which certificate to take over instead of ordering one: of those that are trusted, valid now and cover every
 * configured identifier, the one that lasts longest. None in place of a bundle of kacme's that does all this too.
 */
export function decideAdoption<C extends AdoptionCandidate>(
  { identifiers, family, held, candidates }: AdoptionRequest<C>,
  now: Date,
): AdoptionDecision<C> {
  const covers = (names: readonly string[]) => identifiers.every((identifier) => names.includes(identifier));
  const serves =
    held !== undefined && held.unfit === undefined && (family === undefined || held.family === family);
  if (serves && held.origin !== 'self-signed' && now < held.notAfter && covers(held.identifiers))
    return { action: 'keep', reason: `holds a CA's certificate until ${held.notAfter.toISOString()}` };
  if (candidates.length === 0) return { action: 'decline', reason: 'nothing to adopt was found' };
  const good: { candidate: C; facts: CertificateFacts }[] = [];
  const objections: string[] = [];
  for (const candidate of candidates) {
    const objection = objectionTo(candidate, { identifiers, family }, now);
    if (typeof objection === 'string') objections.push(`${candidate.where} ${objection}`);
    else good.push({ candidate, facts: objection });
  }
  const [best, ...others] = good.sort((a, b) => b.facts.notAfter.getTime() - a.facts.notAfter.getTime());
  if (best === undefined) return { action: 'decline', reason: [...new Set(objections)].join('; ') };
  return {
    action: 'adopt',
    candidate: best.candidate,
    others: distinct(others.map(({ facts }) => facts)).filter(
      (facts) => facts.fingerprint256 !== best.facts.fingerprint256,
    ),
    reason: `adopted from ${best.candidate.where}, valid until ${best.facts.notAfter.toISOString()}`,
  };
}

function objectionTo(
  { judgement, objection }: AdoptionCandidate,
  { identifiers, family }: Pick<AdoptionRequest<AdoptionCandidate>, 'identifiers' | 'family'>,
  now: Date,
): string | CertificateFacts {
  if (judgement.state === 'broken') return `cannot be used: ${judgement.reason}`;
  const { facts } = judgement;
  if (objection !== undefined) return `is not to be used: ${objection}`;
  if (family !== undefined && facts.family !== family) return `has no ${familyName(family)} key`;
  if (facts.selfSigned) return 'is self-signed';
  if (now >= facts.notAfter) return `expired at ${facts.notAfter.toISOString()}`;
  if (now < facts.notBefore) return `is not valid before ${facts.notBefore.toISOString()}`;
  const uncovered = identifiers.filter((identifier) => !facts.identifiers.includes(identifier));
  if (uncovered.length > 0) return `does not cover ${uncovered.join(', ')}`;
  return facts;
}

const distinct = (all: readonly CertificateFacts[]): readonly CertificateFacts[] => [
  ...new Map(all.map((facts) => [facts.fingerprint256, facts])).values(),
];
