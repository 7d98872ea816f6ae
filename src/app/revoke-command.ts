import { KacmeError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { RevokeRequest, SuccessorPlace } from '../domain/revocation.ts';
import type { CertificateResult, PlaceResult, Summary } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Revocations, Revoking } from './revocation.ts';
import { failedResult } from './summary.ts';

/** What else a revocation needs done. */
export interface RevokeSteps {
  /** A new bundle with a new key, active when it resolves. */
  readonly issue: (spec: CertificateSpec, reason: string) => Promise<void>;
  readonly distribute: (certificate: string) => Promise<readonly PlaceResult[]>;
  /** How the hosts stand to the certificate's present bundle. */
  readonly placesOf: (spec: CertificateSpec) => Promise<readonly SuccessorPlace[]>;
  /** Another bundle is needed, or something is left to be revoked. */
  readonly onChanged: (certificate: string) => void;
}

type RevokeOptions = EffectOptions & Pick<CommandOptions, 'onProgress'>;

/** `kacme revoke` for certificates that are one to the operator: one, or both halves of a dual one. */
export async function revokeCertificates(
  specs: readonly CertificateSpec[],
  request: RevokeRequest,
  revocations: Revocations,
  steps: RevokeSteps,
  options: RevokeOptions,
): Promise<Summary> {
  const found = await findAll(specs, request, revocations, options);
  const done = await waitForAll(
    found.revoking.map(
      async ({ spec, revoking }): Promise<{ result: CertificateResult; places: readonly PlaceResult[] }> => {
        const { onProgress } = options;
        const { name: certificate } = spec;
        try {
          if (!request.replace) {
            const { reason } = await revocations.revokeAtOnce(revoking, options);
            const next = revoking.active
              ? '; hosts keep it until its successor is there: a running kacme serve orders it at once'
              : '';
            steps.onChanged(certificate);
            return {
              result: { certificate, action: 'revoked', reason: `${reason}${next}`, failure: undefined },
              places: [],
            };
          }
          await revocations.announce(revoking, options);
          if (revoking.active) {
            onProgress({ message: `${certificate}: ordering the successor` });
            await steps.issue(
              spec,
              `to replace ${revoking.bundle.id.slice(0, 16)} before it is revoked (${request.reason})`,
            );
          }
          const places = await steps.distribute(certificate);
          const result = await revocations.conclude(revoking, await steps.placesOf(spec), options);
          onProgress({ message: `${certificate}: ${result.action}` });
          return { result, places };
        } catch (error) {
          return { result: failedResult(spec, expectedFailure(error, options)), places: [] };
        } finally {
          steps.onChanged(certificate);
        }
      },
    ),
  );
  return summarize(
    [...done.map(({ result }) => result), ...found.kept],
    done.flatMap(({ places }) => places),
  );
}

interface Found {
  readonly revoking: readonly { readonly spec: CertificateSpec; readonly revoking: Revoking }[];
  readonly kept: readonly CertificateResult[];
}

/**
 * All that is meant is found before the first is revoked: a mistake changes nothing. Of a dual certificate that is every
 * half which has something to revoke. Throws `ERR_NOTHING_TO_REVOKE` when none has, or a CA cannot be asked.
 */
async function findAll(
  specs: readonly CertificateSpec[],
  request: RevokeRequest,
  revocations: Revocations,
  options: EffectOptions,
): Promise<Found> {
  const nothing: { readonly certificate: string; readonly error: KacmeError }[] = [];
  const found = await waitForAll(
    specs.map(async (spec) => {
      try {
        return [{ spec, revoking: await revocations.find(spec, request, options) }];
      } catch (error) {
        const refusal = expectedFailure(error, options);
        if (refusal.code !== 'ERR_NOTHING_TO_REVOKE') throw refusal;
        nothing.push({ certificate: spec.name, error: refusal });
        return [];
      }
    }),
  );
  const revoking = found.flat();
  const [first] = nothing;
  if (first !== undefined && revoking.length === 0) {
    const message = nothing.map(({ error }) => error.message).join('; ');
    const { remedy = '' } = first.error;
    throw new KacmeError('ERR_NOTHING_TO_REVOKE', message, { retry: 'never', remedy, cause: first.error });
  }
  for (const each of revoking) revocations.assertAskable(each.revoking);
  // A fingerprint is of one half: of the other one nothing was asked.
  const others = request.fingerprint === undefined ? nothing : [];
  return {
    revoking,
    kept: others.map(({ certificate, error }) => ({
      certificate,
      action: 'kept',
      reason: error.message,
      failure: undefined,
    })),
  };
}

/** That some host could not be reached is no failure of the revocation, but not all of it either. */
function summarize(certificates: readonly CertificateResult[], places: readonly PlaceResult[]): Summary {
  const failed = certificates.some(({ action }) => action === 'failed');
  const partly =
    certificates.some(({ action }) => action === 'pending') || places.some(({ inSync }) => !inSync);
  return { outcome: failed ? 'failed' : partly ? 'partly' : 'done', certificates, places };
}
