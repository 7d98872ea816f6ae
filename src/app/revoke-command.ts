import { type KacmeError, reportError } from '../domain/errors.ts';
import type { CertificateSpec } from '../domain/model.ts';
import type { RevokeRequest, SuccessorPlace } from '../domain/revocation.ts';
import type { CertificateResult, PlaceResult, Summary } from '../domain/status.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Revocations } from './revocation.ts';

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
  // All that is meant is found before the first is revoked: a mistake changes nothing.
  const found = await waitForAll(
    specs.map(async (spec) => ({ spec, revoking: await revocations.find(spec, request, options) })),
  );
  const done = await waitForAll(
    found.map(
      async ({ spec, revoking }): Promise<{ result: CertificateResult; places: readonly PlaceResult[] }> => {
        const { onProgress } = options;
        const { name: certificate } = spec;
        try {
          if (!request.replace) {
            const { reason } = await revocations.revoke(revoking, options);
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
          return { result: failedResult(certificate, expectedFailure(error, options)), places: [] };
        } finally {
          steps.onChanged(certificate);
        }
      },
    ),
  );
  return summarize(
    done.map(({ result }) => result),
    done.flatMap(({ places }) => places),
  );
}

function failedResult(certificate: string, error: KacmeError): CertificateResult {
  const failure = reportError(error);
  return { certificate, action: 'failed', reason: failure.message, failure };
}

/** That some host could not be reached is no failure of the revocation, but not all of it either. */
function summarize(certificates: readonly CertificateResult[], places: readonly PlaceResult[]): Summary {
  const failed = certificates.some(({ action }) => action === 'failed');
  const partly =
    certificates.some(({ action }) => action === 'pending') || places.some(({ inSync }) => !inSync);
  return { outcome: failed ? 'failed' : partly ? 'partly' : 'done', certificates, places };
}
