/**
 * Fetches a challenge that kacme serves (RFC 8555 section 8.3), before the CA is asked to. Throws
 * `ERR_CHALLENGE_UNREACHABLE` unless exactly `keyAuthorization` comes back.
 */
export type SelfCheck = (
  identifier: string,
  token: string,
  keyAuthorization: string,
  options: { signal: AbortSignal },
) => Promise<void>;
