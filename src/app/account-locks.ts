import { SharedLock } from '../domain/shared-lock.ts';

/**
 * Whoever works with an issuer's account shares it; whoever changes its key or puts another in its place is alone, so that
 * no challenge is answered for a key that is not the account's any more.
 */
export class AccountLocks {
  readonly #locks = new Map<string, SharedLock>();

  of(issuer: string): SharedLock {
    const lock = this.#locks.get(issuer) ?? new SharedLock();
    this.#locks.set(issuer, lock);
    return lock;
  }
}
