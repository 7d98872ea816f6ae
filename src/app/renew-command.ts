import type { CertificateSpec } from '../domain/model.ts';
import { RateLimitNearError } from '../domain/rate-limit-error.ts';
import { describeWait } from '../domain/renewal.ts';
import type { CertificateResult } from '../domain/status.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Parts } from './parts.ts';
import { failedResult } from './summary.ts';

/** Resolves once the new bundle is active. */
type Issue = (spec: CertificateSpec, issuer: string, reason: string, options: EffectOptions) => Promise<void>;

/** What `kacme renew` would do to a certificate. Reads only. */
export async function foreseeRenewal(
  { planner, issuer: issuing }: Pick<Parts, 'planner' | 'issuer'>,
  spec: CertificateSpec,
  force: boolean,
  options: { signal: AbortSignal },
): Promise<CertificateResult> {
  const { issuer, decision } = await (force ? planner.force(spec, options) : planner.plan(spec, options));
  const kept = { certificate: spec.name, action: 'kept', failure: undefined } as const;
  if (decision.action === 'wait') return { ...kept, reason: describeWait(decision) };
  try {
    await issuing.assertTakes(spec, issuer, options);
  } catch (error) {
    if (!(error instanceof RateLimitNearError)) throw error;
    const until = error.notBefore.toISOString();
    return { ...kept, reason: `would wait until ${until}: ${decision.reason}; ${error.reason}` };
  }
  return { ...kept, action: 'planned', reason: decision.reason };
}

/** What `kacme renew` does to a certificate. Never throws for what goes wrong: that is in the result. */
export async function renewOne(
  { planner }: Pick<Parts, 'planner'>,
  spec: CertificateSpec,
  { force, issue }: { readonly force: boolean; readonly issue: Issue },
  { onProgress, ...options }: EffectOptions & Pick<CommandOptions, 'onProgress'>,
): Promise<CertificateResult> {
  const certificate = spec.name;
  try {
    const { issuer, decision } = await (force ? planner.force(spec, options) : planner.decide(spec, options));
    const { reason } = decision;
    if (decision.action === 'wait')
      return { certificate, action: 'kept', reason: describeWait(decision), failure: undefined };
    onProgress({ message: `${certificate}: ordering from ${issuer} (${reason})` });
    await issue(spec, issuer, reason, options);
    onProgress({ message: `${certificate}: issued` });
    return { certificate, action: 'issued', reason, failure: undefined };
  } catch (error) {
    const result = failedResult(spec, expectedFailure(error, options));
    onProgress({ message: `${certificate}: failed (${result.reason})` });
    return result;
  }
}
