import { KacmeError } from './errors.ts';

/** kacme itself holds a request back, since the CA would refuse it: `limits` of the issuer, or the CA's own word. */
export class RateLimitNearError extends KacmeError {
  override readonly name = 'RateLimitNearError';
  /** When the CA would take it. */
  readonly notBefore: Date;
  /** Which limit it is. */
  readonly reason: string;

  constructor(attempted: string, reason: string, notBefore: Date) {
    super('ERR_RATE_LIMIT_NEAR', `${attempted}: the CA was not asked, since ${reason}`, {
      retry: 'later',
      remedy:
        "nothing: kacme tries again by itself then; --force cannot override a limit of the CA. If the CA gave you other numbers, set the issuer's limits",
    });
    this.notBefore = notBefore;
    this.reason = reason;
  }
}
