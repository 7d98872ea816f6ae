/** `now`: again in this call. `later`: back to the scheduler. `never`: an operator must act. */
export type Retry = 'now' | 'later' | 'never';

/** Every code kacme can report; `docs/errors.md` explains each one. Branch on these, never on a message. */
export type ErrorCode =
  // usage and configuration
  | 'ERR_CONFIG_INVALID'
  | 'ERR_CONFIG_UNREADABLE'
  | 'ERR_SECRET_UNREADABLE'
  | 'ERR_UNKNOWN_NAME'
  | 'ERR_ACCOUNT_KEY'
  | 'ERR_NOTHING_TO_REVOKE'
  // store and leadership
  | 'ERR_STORE_CONFLICT'
  | 'ERR_STORE_CORRUPT'
  | 'ERR_STORE_UNUSABLE'
  | 'ERR_STORE_SCHEMA'
  | 'ERR_MANDATE_HELD'
  | 'ERR_MANDATE_LOST'
  // the control socket
  | 'ERR_CONTROL_UNREACHABLE'
  | 'ERR_CONTROL_REQUEST'
  // certificate authority
  | 'ERR_ACME_UNREACHABLE'
  | 'ERR_ACME_PROXY'
  | 'ERR_ACME_TIMEOUT'
  | 'ERR_ACME_PROBLEM'
  | 'ERR_ACME_RATE_LIMITED'
  | 'ERR_RATE_LIMIT_NEAR'
  | 'ERR_ACME_MALFORMED'
  | 'ERR_ACME_AUTHORIZATION'
  | 'ERR_ACME_ORDER'
  | 'ERR_ACME_CHAIN'
  | 'ERR_ACME_PROFILE'
  | 'ERR_ACME_TERMS'
  | 'ERR_ACCOUNT_CLOSED'
  | 'ERR_ACCOUNT_UNKNOWN'
  | 'ERR_ACCOUNT_EXISTS'
  // before an order
  | 'ERR_DNS_NO_SUCH_NAME'
  | 'ERR_DNS_NO_ADDRESS'
  | 'ERR_DNS_SERVER_FAILURE'
  | 'ERR_DNS_NO_ANSWER'
  | 'ERR_CAA_DENIED'
  | 'ERR_CHALLENGE_UNREACHABLE'
  | 'ERR_CERTIFICATE_UNUSABLE'
  | 'ERR_ADOPTION_SOURCE'
  | 'ERR_ADOPTION_INCOMPLETE'
  | 'ERR_ROLLBACK_IMPOSSIBLE'
  // hosts
  | 'ERR_HOSTS_UNKNOWN'
  | 'ERR_HOST_UNREACHABLE'
  | 'ERR_HOST_KEY_UNKNOWN'
  | 'ERR_HOST_KEY_CHANGED'
  | 'ERR_HOST_KEY_REVOKED'
  | 'ERR_HOST_LOGIN_REFUSED'
  | 'ERR_HOST_FILES'
  | 'ERR_HOST_DISK_FULL'
  | 'ERR_HOST_NOT_WRITABLE'
  | 'ERR_HOST_COMMAND'
  | 'ERR_HAPROXY_SOCKET'
  | 'ERR_HAPROXY_REFUSED'
  | 'ERR_HAPROXY_BUSY'
  | 'ERR_HAPROXY_PAYLOAD_TOO_LARGE'
  | 'ERR_HAPROXY_RELOAD'
  | 'ERR_HOST_UNVERIFIED'
  | 'ERR_HOST_CHANGED'
  // anything else
  | 'ERR_LISTEN'
  | 'ERR_ABORTED'
  | 'ERR_INTERNAL';

export interface KacmeErrorOptions extends ErrorOptions {
  readonly retry: Retry;
  /** What an operator can do about it, as an instruction. */
  readonly remedy?: string;
  /** Types of the problems of a CA behind it (RFC 8555 section 6.7), in their short form such as `caa`. */
  readonly problems?: readonly string[];
}

/**
 * The one kind of error kacme throws on purpose. The message says what was attempted, on what, and why it
 * failed, in the words of whoever refused it; `remedy` says what an operator can do.
 */
export class KacmeError extends Error {
  override readonly name: string = 'KacmeError';
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly remedy: string | undefined;
  readonly problems: readonly string[];

  constructor(code: ErrorCode, message: string, options: KacmeErrorOptions) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retry = options.retry;
    this.remedy = options.remedy;
    this.problems = options.problems ?? [];
  }
}

/** The form in which an error crosses a process or a file: no stack, no cause. */
export interface ErrorReport {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retry: Retry;
  readonly remedy?: string;
}

/** Turns anything thrown into a report; what is not a KacmeError is `ERR_INTERNAL` (or `ERR_ABORTED`). */
export function reportError(error: unknown): ErrorReport {
  if (error instanceof KacmeError) {
    const { code, message, retry, remedy } = error;
    return { code, message, retry, ...(remedy === undefined ? {} : { remedy }) };
  }
  if (error instanceof Error && error.name === 'AbortError') {
    return { code: 'ERR_ABORTED', message: error.message, retry: 'later' };
  }
  return {
    code: 'ERR_INTERNAL',
    message: error instanceof Error ? error.message : String(error),
    retry: 'later',
  };
}
