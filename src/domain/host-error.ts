import { type ErrorCode, KacmeError, type KacmeErrorOptions, type Retry } from './errors.ts';

export interface HostErrorDetails extends ErrorOptions {
  /** `pool/host`, followed by `(address:port)` where the way to the host itself failed. */
  readonly host: string;
  /** What was being done, such as `connect`, `log in`, `rename /etc/haproxy/haproxy.pem`. */
  readonly step: string;
  /** Why it failed, in the words of whoever refused it. */
  readonly reason: string;
  readonly retry: Retry;
  /** What an operator can do about it, as an instruction. */
  readonly remedy?: string | undefined;
}

/** Something went wrong with one host. The message is always `<host>: <step>: <reason>`. */
export class HostError extends KacmeError {
  override readonly name = 'HostError';
  readonly host: string;
  readonly step: string;
  readonly reason: string;

  constructor(code: ErrorCode, details: HostErrorDetails) {
    const { host, step, reason } = details;
    super(code, `${host}: ${step}: ${reason}`, optionsOf(details));
    this.host = host;
    this.step = step;
    this.reason = reason;
  }
}

function optionsOf(details: HostErrorDetails): KacmeErrorOptions {
  return {
    retry: details.retry,
    ...(details.remedy === undefined ? {} : { remedy: details.remedy }),
    ...('cause' in details ? { cause: details.cause } : {}),
  };
}
