import { KacmeError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { decideRollback, holdUntil } from '../domain/rollback.ts';
import type { CertificateResult } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Parts } from './parts.ts';
import { holdRecord } from './records.ts';
import { failedResult } from './summary.ts';

/**
 * Of the halves of a dual certificate those that have the bundle which is asked for; all of them when none has it, so
 * that each one says what it has.
 */
export async function whoseBundle(
  specs: readonly CertificateSpec[],
  to: string | undefined,
  bundles: Bundles,
  options: { signal: AbortSignal },
): Promise<readonly CertificateSpec[]> {
  if (to === undefined || specs.length < 2) return specs;
  const found = await waitForAll(
    specs.map(async (spec) => {
      const history = await bundles.former(spec.name, options);
      return history.some(({ id }) => id.startsWith(to.toLowerCase())) ? [spec] : [];
    }),
  );
  const owners = found.flat();
  return owners.length === 0 ? specs : owners;
}

/** What `kacme rollback` does to a certificate. Never throws for what goes wrong: that is in the result. */
export async function rollBackOne(
  { bundles, deps: { clock } }: Pick<Parts, 'bundles' | 'deps'>,
  spec: CertificateSpec,
  to: string | undefined,
  options: EffectOptions & Pick<CommandOptions, 'onProgress'>,
): Promise<CertificateResult> {
  const certificate = spec.name;
  try {
    const reason = await rollBack(spec, to, { bundles, clock }, options);
    options.onProgress({ message: `${certificate}: rolled back (${reason})` });
    return { certificate, action: 'rolled back', reason, failure: undefined };
  } catch (error) {
    const result = failedResult(spec, expectedFailure(error, options));
    options.onProgress({ message: `${certificate}: failed (${result.reason})` });
    return result;
  }
}

/**
 * Makes a new generation of a certificate from a former bundle of it, and holds its renewal so that the bundle which the
 * operator goes back from does not come again at once. Resolves to the reason, for people. Throws
 * `ERR_ROLLBACK_IMPOSSIBLE` when there is nothing to go back to.
 */
async function rollBack(
  spec: CertificateSpec,
  to: string | undefined,
  { bundles, clock }: { readonly bundles: Bundles } & Pick<AppDeps, 'clock'>,
  options: EffectOptions,
): Promise<string> {
  const now = clock.now();
  const history = await bundles.former(spec.name, options);
  const decision = decideRollback({ history, identifiers: spec.identifiers, to }, now);
  if (decision.action === 'refuse') {
    throw new KacmeError('ERR_ROLLBACK_IMPOSSIBLE', `cannot roll ${spec.name} back: ${decision.reason}`, {
      retry: 'never',
      remedy: `order a new certificate instead: kacme renew ${spec.name} --force`,
    });
  }
  const bundle = history.find(({ id }) => id === decision.to);
  const until = holdUntil(bundle?.notAfter ?? now, now).toISOString();
  const key = holdRecord.key(spec.name);
  const value = holdRecord.serialize({ bundle: decision.to, until });
  await bundles.activateAgain(
    spec,
    { id: decision.to, reason: 'rolled back by the operator' },
    { puts: [{ key, value }] },
    options,
  );
  return `${decision.reason}; not renewed before ${until}`;
}
