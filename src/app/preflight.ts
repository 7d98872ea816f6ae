import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { type CaaIssuer, type CaaVerdict, caaDenied } from '../domain/caa.ts';
import { KacmeError } from '../domain/errors.ts';
import { Lane } from '../domain/lane.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { ChallengeProbe, SelfCheck } from '../ports/self-check.ts';
import { BriefMemory } from './brief-memory.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import { NameService } from './name-service.ts';

/** A path that worked is believed for this long, so that certificates that share a name do not test it each. */
const PATH_KEPT_MS = 30_000;

/** Connections that the tests of the challenge path have open at a time. */
const FETCHES_AT_ONCE = 16;

/** What is served under a token for a moment. */
export interface Probe {
  readonly identifier: string;
  readonly token: string;
  readonly keyAuthorization: string;
}

/** Has the challenge server answer the probes while `work` runs. */
export type WhileServing = (probes: readonly Probe[], work: () => Promise<void>) => Promise<void>;

/** What was found out about one identifier. `doubts` are in its way, or nothing at all. */
export interface Reachability {
  readonly identifier: string;
  readonly addresses: readonly string[];
  readonly doubts: readonly string[];
  readonly failure: KacmeError | undefined;
}

/** Finds out what the CA would stumble over, before it is asked: DNS, CAA, and the way of http-01 challenges. */
export class Preflight {
  readonly #names: NameService | undefined;
  readonly #selfCheck: SelfCheck | undefined;
  readonly #working: BriefMemory<readonly string[]>;
  readonly #lane = new Lane(FETCHES_AT_ONCE);

  constructor({ resolver, selfCheck, clock }: Pick<AppDeps, 'resolver' | 'selfCheck' | 'clock'>) {
    this.#names = resolver && new NameService(resolver, clock);
    this.#selfCheck = selfCheck;
    this.#working = new BriefMemory(PATH_KEPT_MS, clock);
  }

  /**
   * Whether each identifier resolves, and a challenge comes back from every address it has, in every pass. Throws
   * `ERR_DNS_*` or `ERR_CHALLENGE_UNREACHABLE`, with what is wrong with each.
   */
  async assertReachable(
    identifiers: readonly string[],
    { whileServing, log }: { whileServing: WhileServing; log: Logger },
    options: { signal: AbortSignal },
  ): Promise<void> {
    const resolved = await waitForAll(identifiers.map((identifier) => this.resolve(identifier, options)));
    throwAny(resolved, identifiers.length);
    const results = await this.tryPaths(resolved, whileServing, options);
    throwAny(results, identifiers.length);
    for (const { identifier, doubts } of [...resolved, ...results])
      if (doubts.length > 0) log.warn({ identifier, doubts }, 'challenge path not tested in full');
    log.debug({ identifiers }, 'challenge path checked');
  }

  /** Where an identifier leads to. With `via` its addresses are only looked at: an answer that fails to come is a doubt. */
  async resolve(identifier: string, options: { signal: AbortSignal }): Promise<Reachability> {
    if (this.#names === undefined) return { identifier, addresses: [], doubts: [], failure: undefined };
    try {
      const found = await this.#names.addresses(identifier, options);
      return { identifier, ...found, failure: undefined };
    } catch (error) {
      const failure = expectedFailure(error, options);
      const unknown = failure.code === 'ERR_DNS_NO_ANSWER' || failure.code === 'ERR_DNS_SERVER_FAILURE';
      const passes = unknown && (this.#selfCheck === undefined || this.#selfCheck.via !== undefined);
      return passes
        ? { identifier, addresses: [], doubts: [failure.message], failure: undefined }
        : { identifier, addresses: [], doubts: [], failure };
    }
  }

  /** Fetches a challenge of our own as the CA would; nothing where the self-check is off. Never throws for a path. */
  async tryPaths(
    resolved: readonly Reachability[],
    whileServing: WhileServing,
    options: { signal: AbortSignal },
  ): Promise<readonly Reachability[]> {
    const selfCheck = this.#selfCheck;
    if (selfCheck === undefined) return [];
    const known = resolved.filter(({ identifier }) => this.#working.has(identifier));
    const tried = resolved.filter((one) => !known.includes(one));
    const probes = tried.map(({ identifier }) => newProbe(identifier));
    const results: Reachability[] = [];
    const work = async () => {
      results.push(
        ...(await waitForAll(
          tried.map((one, index) => this.#tryPath(selfCheck, one, probes[index] ?? newProbe(''), options)),
        )),
      );
    };
    if (tried.length > 0) await whileServing(probes, work);
    return [...known.map((one) => ({ ...one, doubts: [] })), ...results];
  }

  async #tryPath(
    selfCheck: SelfCheck,
    { identifier, addresses }: Reachability,
    probe: Probe,
    options: { signal: AbortSignal },
  ): Promise<Reachability> {
    const targets = selfCheck.via === undefined && addresses.length > 0 ? addresses : [undefined];
    try {
      const untestable = await waitForAll(
        targets.map((address) => this.#tryAddress(selfCheck, { ...probe, address }, options)),
      );
      const doubts = untestable.filter((reason) => reason !== undefined);
      this.#working.remember(identifier, doubts);
      return { identifier, addresses, doubts, failure: undefined };
    } catch (error) {
      return { identifier, addresses, doubts: [], failure: expectedFailure(error, options) };
    }
  }

  /** The passes one after the other. Resolves to why the address could not be tested, if it could not. */
  async #tryAddress(
    { passes, fetch }: SelfCheck,
    probe: ChallengeProbe,
    { signal }: { signal: AbortSignal },
  ): Promise<string | undefined> {
    for (let pass = 1; pass <= passes; pass++) {
      const outcome = await this.#lane.run(() => fetch(probe, { signal }), { signal });
      if (outcome.state === 'untestable') return `${probe.address}: ${outcome.reason}`;
    }
    return undefined;
  }

  /** Throws `ERR_CAA_DENIED`. What cannot be told is logged: the CA's own resolvers have the last word. */
  async assertPermitted(
    identifiers: readonly string[],
    { issuer, log }: { issuer: CaaIssuer; log: Logger },
    options: { signal: AbortSignal },
  ): Promise<void> {
    const judged = await waitForAll(
      identifiers.map(async (identifier) => {
        const verdict = await this.caa(identifier, issuer, options);
        if (verdict instanceof KacmeError) return { failure: verdict };
        if (verdict?.verdict === 'undetermined')
          log.warn({ identifier, reason: verdict.reason }, 'CAA not determined');
        return { failure: undefined };
      }),
    );
    throwAny(judged, identifiers.length);
  }

  /** What CAA says, as an error when it denies; undefined when DNS is not looked at. */
  async caa(
    identifier: string,
    issuer: CaaIssuer,
    options: { signal: AbortSignal },
  ): Promise<CaaVerdict | KacmeError | undefined> {
    const verdict = await this.#names?.caa(identifier, issuer, options);
    return verdict?.verdict === 'denied' ? caaDenied(identifier, verdict, issuer) : verdict;
  }
}

function newProbe(identifier: string): Probe {
  const token = randomBytes(32).toString('base64url');
  return { identifier, token, keyAuthorization: `${token}.${randomBytes(32).toString('base64url')}` };
}

/** One error that tells of every identifier: whoever repairs one wants to know of the others. */
function throwAny(judged: readonly { readonly failure: KacmeError | undefined }[], total: number): void {
  const failures = judged.flatMap(({ failure }) => (failure === undefined ? [] : [failure]));
  const [first, ...others] = failures;
  if (first === undefined) return;
  if (others.length === 0) throw first;
  const remedies = new Set(failures.flatMap(({ remedy }) => remedy ?? []));
  throw new KacmeError(
    first.code,
    `${failures.length} of ${total} identifiers fail: ${failures.map(({ message }) => message).join('; ')}`,
    { retry: first.retry, remedy: [...remedies].join('; '), cause: first },
  );
}
