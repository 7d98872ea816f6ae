/** A challenge that kacme serves for a moment, to be fetched as the CA would fetch it. */
export interface ChallengeProbe {
  readonly identifier: string;
  readonly token: string;
  readonly keyAuthorization: string;
  /** Where to connect to; undefined where `via` says so. */
  readonly address: string | undefined;
}

/** `untestable`: nothing is known, since this machine itself has no way there. */
export type ProbeOutcome =
  | { readonly state: 'answered' }
  | { readonly state: 'untestable'; readonly reason: string };

export interface SelfCheck {
  /** Connected to instead of an identifier's own addresses. */
  readonly via: string | undefined;
  /** Fetches from each address. */
  readonly passes: number;
  /**
   * Fetches a challenge once (RFC 8555 section 8.3). Throws `ERR_CHALLENGE_UNREACHABLE` when anything else than exactly
   * `keyAuthorization` comes back.
   */
  fetch(probe: ChallengeProbe, options: { signal: AbortSignal }): Promise<ProbeOutcome>;
}
