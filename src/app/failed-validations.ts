import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Authorization, CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { OrderRecord } from './records.ts';

/**
 * Identifiers that the CA could not validate for this order while nobody looked, as when kacme was killed after it had
 * announced a challenge. Nobody has counted them: an order whose failures were counted is gone from the store. Those
 * that failed for another order, whose challenges this one never served, were counted there.
 */
export function uncountedFailures(
  { challengeTokens }: Pick<OrderRecord, 'challengeTokens'>,
  authorizations: readonly Authorization[],
): readonly string[] {
  return authorizations
    .filter(({ status, http01 }) => status === 'invalid' && challengeTokens.includes(http01?.token ?? ''))
    .map(({ identifier }) => identifier);
}

/** The same for an order that died meanwhile. What the CA has forgotten counts no more there either. */
export async function readUncountedFailures(
  stored: Pick<OrderRecord, 'challengeTokens'>,
  order: Order,
  { authority, log }: { readonly authority: CertificateAuthority; readonly log: Logger },
  options: { signal: AbortSignal },
): Promise<readonly string[]> {
  if (stored.challengeTokens.length === 0) return [];
  const read = async (url: string): Promise<readonly Authorization[]> => {
    try {
      return [await authority.authorization(url, options)];
    } catch (error) {
      const refused = error instanceof KacmeError && error.code === 'ERR_ACME_PROBLEM';
      // The CA is in trouble: it is asked again when the order is.
      if (!refused || error.problems.includes('serverInternal')) throw error;
      log.warn({ err: error, authorization: url }, 'authorization of a dead order cannot be read');
      return [];
    }
  };
  return uncountedFailures(stored, (await waitForAll(order.authorizations.map(read))).flat());
}
