import { HostError } from '../domain/host-error.ts';
import { isIpAddress } from '../domain/ip-address.ts';
import type { PlaceDecision } from '../domain/place-decision.ts';
import type { PlaceStatus } from '../domain/status.ts';
import type { Verification } from '../ports/haproxy-host.ts';
import type { CanaryGate } from './canary.ts';
import type { AppDeps } from './deps.ts';
import type { Desired } from './desired-bundles.ts';
import { HandshakeMemory, type Recalled } from './handshake-memory.ts';
import { idOf, type Target } from './host-journal.ts';
import { afterHandshakes, failed, type Place, placeIs, whenHalted, whenPaused } from './place.ts';

export type PlaceChange = Extract<PlaceDecision, { action: 'change' }>;

interface Cancellable {
  readonly signal: AbortSignal;
}

/** What was done, for a reason. */
const DONE = { swap: 'swapped', add: 'added', reload: 'loaded by a reload' } as const;

/** What a place is, in the words of `kacme status`: by what was decided, and by what handshakes present. */
export class Verdicts {
  readonly #deps: Pick<AppDeps, 'hosts' | 'clock'>;
  readonly #canaries: CanaryGate;
  readonly #handshakes = new HandshakeMemory();

  constructor(deps: Pick<AppDeps, 'hosts' | 'clock'>, canaries: CanaryGate) {
    this.#deps = deps;
    this.#canaries = canaries;
  }

  /** When nobody is going to change it now. */
  async untouched(target: Target, place: Place, options: Cancellable): Promise<PlaceStatus> {
    return place.decision?.action === 'change'
      ? this.#foresee(target, place, place.decision, options)
      : this.unchanged(target, place, options);
  }

  async #foresee(
    { pool, host }: Target,
    place: Place,
    { reason }: PlaceChange,
    options: Cancellable,
  ): Promise<PlaceStatus> {
    const { certificate } = place.deployment;
    const generation = place.desired?.place.generation ?? 0;
    const halted = await this.#canaries.halted({ pool: pool.name, certificate, generation }, options);
    return halted === undefined ? placeIs(place, 'out of sync', reason) : whenHalted(place, halted, host);
  }

  /** Which handshakes are due where former ones may be believed. */
  recall(target: Target, places: readonly Place[]): ReadonlyMap<Place, Recalled> {
    const asked = places.flatMap((place) =>
      place.desired !== undefined && place.decision?.action === 'none' && place.decision.memory
        ? [{ place, key: keyOf(target, place), presented: presentedBy(place, place.desired) }]
        : [],
    );
    const recalled = this.#handshakes.recall(
      new Map(asked.map(({ key, presented }) => [key, presented])),
      this.#deps.clock.monotonicMs(),
    );
    return new Map(asked.map(({ place, key }) => [place, recalled.get(key) ?? { state: 'new' }]));
  }

  /** When nothing had to be changed, or must not be. All handshakes are made unless less is due. */
  async unchanged(
    target: Target,
    place: Place,
    options: Cancellable & { readonly due?: Recalled | undefined },
  ): Promise<PlaceStatus> {
    const { desired, decision, failure } = place;
    if (failure !== undefined) return failed(place, failure);
    if (desired === undefined || decision === undefined)
      return placeIs(place, 'unknown', 'no bundle yet: run kacme bootstrap');
    if (decision.action === 'leave') {
      const { state, reason, paused } = decision;
      return paused === undefined ? placeIs(place, state, reason) : whenPaused(place, reason, paused);
    }
    if (decision.action === 'change') return placeIs(place, 'out of sync', decision.reason);
    if (!decision.memory) return this.#judgeFileOnly(target, place, desired, decision.reason, options);
    const { due = { state: 'new' } } = options;
    const verification =
      due.state === 'believed'
        ? due.verification
        : due.state === 'known'
          ? await this.#verifyAgain(target, place, desired, options)
          : await this.#verifyAnew(target, place, desired, options);
    return afterHandshakes(place, verification, decision.reason);
  }

  /** When another process answers at one place, nothing is believed of the others of this host either. */
  async #verifyAgain(
    target: Target,
    place: Place,
    desired: Desired,
    options: Cancellable,
  ): Promise<Verification> {
    const one = await this.#verify(target, place, desired, { ...options, handshakes: 1 });
    if (one.state === 'verified') return this.#keep(target, place, desired, one);
    this.#handshakes.forget(target.deployments.map((deployment) => keyOf(target, { deployment })));
    return this.#verifyAnew(target, place, desired, options);
  }

  async #verifyAnew(
    target: Target,
    place: Place,
    desired: Desired,
    options: Cancellable,
  ): Promise<Verification> {
    return this.#keep(target, place, desired, await this.#verify(target, place, desired, options));
  }

  #keep(target: Target, place: Place, desired: Desired, verification: Verification): Verification {
    const nowMs = this.#deps.clock.monotonicMs();
    return this.#handshakes.keep(keyOf(target, place), presentedBy(place, desired), verification, nowMs);
  }

  /**
   * How many handshakes prove a change, with each address; undefined: as many as the pool says. One will do with a process that
   * was seen to listen alone: only a reload leaves an old worker behind, and makes another process.
   */
  handshakesAfter(target: Target, place: Place): number | undefined {
    return this.#handshakes.isAlone(keyOf(target, place), place.worker) ? 1 : undefined;
  }

  /** After a change that has succeeded. */
  async changed(
    target: Target,
    place: Place,
    { memory, means, remains }: PlaceChange,
    verification: Verification,
    options: Cancellable,
  ): Promise<PlaceStatus> {
    const { desired } = place;
    if (remains !== undefined) return placeIs(place, 'out of sync', remains);
    if (means !== 'install') {
      const kept = desired === undefined ? verification : this.#keep(target, place, desired, verification);
      if (means === 'swap') this.#handshakes.swapped(keyOf(target, place));
      return afterHandshakes(place, kept, DONE[means]);
    }
    if (desired === undefined) return placeIs(place, 'file only', 'installed');
    if (!memory)
      return this.#judgeFileOnly(
        target,
        place,
        desired,
        'installed; HAProxy loads it when it starts',
        options,
      );
    return afterHandshakes(place, await this.#verify(target, place, desired, options), 'file restored');
  }

  /** A socket that takes no connection means a stopped HAProxy, unless the host answers handshakes all the same. */
  async #judgeFileOnly(
    target: Target,
    place: Place,
    desired: Desired,
    reason: string,
    options: Cancellable,
  ): Promise<PlaceStatus> {
    const { pool, host } = target;
    const verification = await this.#verify(target, place, desired, options);
    if (verification.state === 'unverified') return placeIs(place, 'file only', reason);
    if (verification.state === 'failed' && !verification.answered) return placeIs(place, 'file only', reason);
    const socket = pool.haproxy.socket ?? pool.haproxy.masterSocket ?? 'its socket';
    const answer =
      verification.state === 'failed' ? verification.reason : 'handshakes present the new certificate';
    return failed(
      place,
      new HostError('ERR_HAPROXY_SOCKET', {
        host: `${pool.name}/${host.name}`,
        step: `connect to HAProxy at ${socket}`,
        reason: `nothing answers there, yet HAProxy runs: ${answer}. The file holds the bundle; it cannot be loaded without the socket`,
        retry: 'later',
        remedy: `see on the host that \`stats socket ${socket} level admin\` is in haproxy.cfg, that the account may connect to it, and that sshd forwards to it (PermitOpen [${socket}]:*)`,
      }),
    );
  }

  #verify(
    { pool, host }: Target,
    { deployment: { family } }: Place,
    desired: Desired,
    { handshakes, signal }: Cancellable & { readonly handshakes?: number },
  ): Promise<Verification> {
    const { fingerprint256 } = desired.place.facts;
    const request = { servername: servernameOf(desired), fingerprint256, family };
    const asked = handshakes === undefined ? request : { ...request, handshakes };
    return this.#deps.hosts.host(pool, host).verify(asked, { signal });
  }
}

const keyOf = (target: Target, { deployment }: Pick<Place, 'deployment'>): string =>
  `${idOf(target)} ${deployment.path}`;

const presentedBy = ({ worker }: Place, desired: Desired) => ({
  fingerprint256: desired.place.facts.fingerprint256,
  worker,
});

/** SNI of the verifying handshakes: HAProxy chooses among its certificates by it. */
export const servernameOf = ({ place }: Desired): string => servernameAmong(place.identifiers);

export function servernameAmong(identifiers: readonly string[]): string {
  const [first = ''] = identifiers;
  // By an address nobody can ask for a certificate that is not HAProxy's default (RFC 6066 section 3).
  return identifiers.find((identifier) => !isIpAddress(identifier)) ?? first;
}
