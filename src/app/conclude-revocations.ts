import type { CertificateSpec } from '../domain/model.ts';
import type { SuccessorPlace } from '../domain/revocation.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { expectedFailure } from './expected-failure.ts';
import type { Parts } from './parts.ts';

type RevocationParts = Pick<Parts, 'config' | 'deps' | 'bundles' | 'fleet' | 'revocations'>;

/** Revokes what is replaced everywhere by now. Resolves to whether something is left to be revoked. */
export async function concludeRevocations(parts: RevocationParts, options: EffectOptions): Promise<boolean> {
  const { config, deps, revocations } = parts;
  const now = deps.clock.now().toISOString();
  const left = await waitForAll(
    Object.values(config.certificates).map(async (spec) => {
      const pending = await revocations.pending(spec.name, options);
      const results = await waitForAll(
        pending.map(async (revoking) => {
          if (revoking.active || (revoking.revocation.notBefore ?? '') > now) return 'pending';
          const places = await successorPlaces(parts, spec, options);
          try {
            return (await revocations.conclude(revoking, places, options)).action;
          } catch (error) {
            expectedFailure(error, options);
            return 'pending';
          }
        }),
      );
      return results.includes('pending');
    }),
  );
  return left.includes(true);
}

/** How the hosts stand to the present bundle of a certificate, as last observed. */
export async function successorPlaces(
  { bundles, fleet }: Pick<Parts, 'bundles' | 'fleet'>,
  { name }: CertificateSpec,
  options: { signal: AbortSignal },
): Promise<readonly SuccessorPlace[]> {
  const generation = (await bundles.record(name, options))?.value.generation ?? 0;
  return fleet
    .statuses(new Map([[name, generation]]))
    .flatMap(({ host, reachable, places }) =>
      places
        .filter(({ certificate }) => certificate === name)
        .map(({ state }) => ({ host, reachable: reachable !== false, state })),
    );
}
