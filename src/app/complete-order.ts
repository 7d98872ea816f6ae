import { KacmeError, reportError } from '../domain/errors.ts';
import type { IssuanceTerms } from '../domain/issuance-terms.ts';
import type { CertificateSpec } from '../domain/model.ts';
import { readBundlePem, renderBundlePem } from '../domain/x509.ts';
import type { CertificateAuthority, Order } from '../ports/certificate-authority.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { authorizeOrder, type OrderParties } from './authorize.ts';
import type { StoredOrder } from './order-journal.ts';
import { downloadChain } from './preferred-chain.ts';

/** A clock may be behind that of the CA by so much; most CAs allow for an hour. */
const CLOCK_SKEW_MS = 60_000;

export interface CompletionParties extends OrderParties {
  readonly issuer: string;
  readonly terms: IssuanceTerms;
  readonly clock: Pick<Clock, 'now'>;
}

/** What an order led to, and the record in which it still stands. */
export interface CompletedOrder {
  readonly chainPem: string;
  readonly stored: StoredOrder;
}

/**
 * Brings an order from wherever it stands to its certificate (RFC 8555 section 7.4): authorizations, finalize, download.
 * An order that leads to none, or to one that is not usable, is abandoned before the error is thrown.
 */
export async function completeOrder(
  spec: CertificateSpec,
  begun: { readonly order: Order; readonly stored: StoredOrder },
  parties: CompletionParties,
  options: EffectOptions,
): Promise<CompletedOrder> {
  const { authority, journal, issuer, terms, clock } = parties;
  let { order, stored } = begun;
  if (order.status === 'pending') {
    stored = await authorizeOrder(order, stored, parties, options);
    order = await authority.awaitOrder(order.url, options);
  }
  if (order.status === 'ready') {
    stored = await journal.finalizing(stored, options);
    order = await finalizeOnce(spec, { order, stored }, authority, options);
  }
  if (order.status === 'processing') order = await authority.awaitOrder(order.url, options);
  if (order.status !== 'valid' || order.certificate === undefined) {
    const reason = order.error ?? deadEndOf(order);
    await journal.abandon(stored, reason, options, { issued: order.status !== 'invalid' });
    throw new KacmeError(
      'ERR_ACME_ORDER',
      `order ${order.url} for ${spec.identifiers.join(', ')} is ${order.status}: ${reason}`,
      {
        retry: 'later',
        problems: order.problems ?? [],
        remedy: 'kacme orders again by itself; read what the CA says about each identifier',
      },
    );
  }
  const { certificate: url } = order;
  try {
    const chainPem = await downloadChain(url, terms, issuer, authority, options);
    const flaw = flawOf(spec, chainPem, stored.order.keyPem, clock.now());
    if (flaw !== undefined) throw unusable(spec, { issuer, url, flaw });
    return { chainPem, stored };
  } catch (error) {
    const { code, message } = reportError(error);
    // The CA would give the same chain again.
    if (code === 'ERR_CERTIFICATE_UNUSABLE')
      await journal.abandon(stored, message, options, { issued: true });
    throw error;
  }
}

/**
 * Section 7.4: a CA that says `orderNotReady` of an order that was ready has perhaps had its finalize before, such as one
 * that was sent before a kill and came late. It was made with the same key, so the order is followed as it stands then.
 */
async function finalizeOnce(
  { identifiers }: CertificateSpec,
  { order, stored }: { readonly order: Order; readonly stored: StoredOrder },
  authority: CertificateAuthority,
  options: EffectOptions,
): Promise<Order> {
  try {
    return await authority.finalize(order, { keyPem: stored.order.keyPem, identifiers }, options);
  } catch (error) {
    if (!(error instanceof KacmeError) || !error.problems.includes('orderNotReady')) throw error;
    const seen = await authority.awaitOrder(order.url, options);
    if (seen.status === 'ready') throw error;
    return seen;
  }
}

/** Why an order without an error of its own leads to no certificate. */
const deadEndOf = ({ status }: Order): string =>
  status === 'valid' ? 'but the CA names no certificate for it' : 'the CA gives no reason';

/** Why a download is not believed: it must fit the key, cover every identifier and be valid now. */
function flawOf(spec: CertificateSpec, chainPem: string, keyPem: string, now: Date): string | undefined {
  const content = readBundlePem(renderBundlePem(chainPem, keyPem));
  if (content.state === 'broken') return content.reason;
  const { identifiers, notBefore, notAfter } = content.facts;
  const missing = spec.identifiers.filter((identifier) => !identifiers.includes(identifier));
  if (missing.length > 0) return `it does not cover ${missing.join(', ')}`;
  if (now >= notAfter) return `it expired at ${notAfter.toISOString()}`;
  return notBefore.getTime() - now.getTime() > CLOCK_SKEW_MS
    ? `it is not valid before ${notBefore.toISOString()} (is the clock here right?)`
    : undefined;
}

function unusable(
  { name }: CertificateSpec,
  { issuer, url, flaw }: { readonly issuer: string; readonly url: string; readonly flaw: string },
): KacmeError {
  return new KacmeError(
    'ERR_CERTIFICATE_UNUSABLE',
    `the certificate that ${issuer} issued for ${name} (${url}) is not usable: ${flaw}`,
    {
      retry: 'later',
      remedy:
        'the bundle in use stays and kacme orders again; if it lasts, ask the CA or name another issuer',
    },
  );
}
