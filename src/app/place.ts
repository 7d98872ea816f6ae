import type { FailedChanges } from '../domain/change-pause.ts';
import type { KacmeError } from '../domain/errors.ts';
import { reportError } from '../domain/errors.ts';
import type { DeploymentSpec, HostSpec } from '../domain/model.ts';
import type { PlaceObservation, WorkerProcess } from '../domain/observation.ts';
import type { PlaceDecision } from '../domain/place-decision.ts';
import type { PlaceState, PlaceStatus } from '../domain/status.ts';
import type { Verification } from '../ports/haproxy-host.ts';
import type { Halted } from './canary.ts';
import type { Desired } from './desired-bundles.ts';

/** One deployment on one host, looked at and decided. */
export interface Place {
  readonly deployment: DeploymentSpec;
  readonly desired: Desired | undefined;
  readonly decision: PlaceDecision | undefined;
  /** Why it is not known what it should hold. */
  readonly failure: KacmeError | undefined;
  readonly observed: PlaceObservation | undefined;
  /** The process whose memory was looked at. */
  readonly worker: WorkerProcess | undefined;
}

export function placeIs({ deployment, desired }: Place, state: PlaceState, reason: string): PlaceStatus {
  const { certificate, path } = deployment;
  return { certificate, path, generation: desired?.place.generation, state, reason, failure: undefined };
}

export function afterHandshakes(place: Place, verification: Verification, reason: string): PlaceStatus {
  switch (verification.state) {
    case 'verified':
      return placeIs(
        place,
        'in sync',
        verification.handshakes === 1
          ? `${reason}; a handshake presents it`
          : `${reason}; ${verification.handshakes} handshakes present it`,
      );
    case 'unverified':
      return placeIs(place, 'unverified', `${reason}; ${verification.reason}`);
    case 'failed':
      return placeIs(place, 'out of sync', `${reason}, but ${verification.reason}`);
  }
}

/** The host that failed says what to do; the others, that they wait for it. */
export function whenHalted(place: Place, { host, failure, until }: Halted, self: HostSpec): PlaceStatus {
  const reason = `rollout halted until ${until.toISOString()}: ${failure.message}`;
  const waits = placeIs(place, 'out of sync', reason);
  return host === self.name ? { ...waits, failure, retryAt: until.toISOString() } : waits;
}

/** It failed, and is not tried again at once. */
export function whenPaused(place: Place, reason: string, { failure, until }: FailedChanges): PlaceStatus {
  return { ...placeIs(place, 'out of sync', reason), failure, retryAt: until.toISOString() };
}

/** `retryAt` undefined: at the next look. */
export function failed(place: Place, error: unknown, retryAt?: Date): PlaceStatus {
  const failure = reportError(error);
  const status = { ...placeIs(place, 'failed', failure.message), failure };
  return retryAt === undefined ? status : { ...status, retryAt: retryAt.toISOString() };
}
