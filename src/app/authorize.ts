import { KacmeError } from '../domain/errors.ts';
import { isFinalRefusal } from '../domain/failure.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { Authorization, CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { uncountedFailures } from './failed-validations.ts';
import type { OrderJournal, StoredOrder } from './order-journal.ts';
import type { RateBook } from './rate-book.ts';

/** Also of an authorization that was revoked or has expired. */
const UNEXPLAINED =
  'let it resolve to HAProxy, and let HAProxy forward /.well-known/acme-challenge/ on port 80 to kacme';

export interface OrderParties {
  readonly authority: CertificateAuthority;
  readonly journal: OrderJournal;
  readonly book: RateBook;
}

/**
 * Has every identifier of a pending order validated, side by side (RFC 8555 section 7.5). Throws
 * `ERR_ACME_AUTHORIZATION`, with the order abandoned and its failures counted, when the CA does not authorize one.
 */
export async function authorizeOrder(
  order: Order,
  stored: StoredOrder,
  { authority, journal, book }: OrderParties,
  options: EffectOptions,
): Promise<StoredOrder> {
  const authorizations = await waitForAll(
    order.authorizations.map((url) => authority.authorization(url, options)),
  );
  const pending = authorizations.filter(({ status }) => status === 'pending');
  const challenges = pending.map((authorization) => ({
    authorization,
    http01: requireHttp01(authorization),
  }));
  // One durable write for all of them: the CA may ask the moment it is told.
  const published = await journal.publishChallenges(stored, challenges, options);
  const judged = await waitForAll(
    challenges.map(async ({ authorization, http01 }) => {
      await authority.respond(http01.url, options);
      return authority.awaitAuthorization(authorization.url, options);
    }),
  );
  const refused = [...judged, ...authorizations.filter(({ status }) => status !== 'pending')].filter(
    ({ status }) => status !== 'valid',
  );
  if (refused.length === 0) return published;
  const reasons = refused.map(
    ({ identifier, status, error }) => `${identifier}: ${error ?? `authorization is ${status}`}`,
  );
  const failedNow = judged.filter(({ status }) => status === 'invalid').map(({ identifier }) => identifier);
  const failed = [...failedNow, ...uncountedFailures(stored.order, authorizations)];
  await journal.abandon(published, reasons.join('; '), options, { also: book.failed(failed) });
  const problems = refused.flatMap((authorization) => authorization.problems ?? []);
  throw new KacmeError('ERR_ACME_AUTHORIZATION', `the CA did not authorize ${reasons.join('; ')}`, {
    retry: problems.some(isFinalRefusal) ? 'never' : 'later',
    problems,
    remedy: remedyFor(refused),
  });
}

/** Each remedy once, after the identifiers that it is for. */
function remedyFor(refused: readonly Authorization[]): string {
  const identifiers = new Map<string, string[]>();
  for (const { identifier, remedy = UNEXPLAINED } of refused)
    identifiers.set(remedy, [...(identifiers.get(remedy) ?? []), identifier]);
  return Array.from(identifiers, ([remedy, names]) => `${names.join(', ')}: ${remedy}`).join('; ');
}

function requireHttp01(authorization: Authorization): NonNullable<Authorization['http01']> {
  if (authorization.http01 !== undefined) return authorization.http01;
  throw new KacmeError(
    'ERR_ACME_ORDER',
    `the CA offers no http-01 challenge for ${authorization.identifier} (${authorization.url})`,
    {
      retry: 'never',
      remedy: 'kacme validates by http-01 only: choose another issuer or leave this identifier out',
    },
  );
}
