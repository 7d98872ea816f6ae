import { isIP } from 'node:net';
import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import type { Order } from '../ports/certificate-authority.ts';
import type { Directory } from './directory.ts';
import { parseDocument } from './document.ts';
import { describeProblem, readProblem } from './problem.ts';
import type { AcmeResponse } from './transport.ts';

const orderSchema = z.object({
  status: z.enum(['pending', 'ready', 'processing', 'valid', 'invalid']),
  authorizations: z.array(z.url()).min(1),
  finalize: z.url(),
  certificate: z.url().optional(),
  expires: z.iso.datetime({ offset: true }).optional(),
  replaces: z.string().optional(),
  error: z.unknown().optional(),
});

/** RFC 8555 section 7.1.3. Throws `ERR_ACME_MALFORMED`. */
export function parseOrder(url: string, response: AcmeResponse): Order {
  const order = parseDocument(orderSchema, response);
  return {
    url,
    status: order.status,
    authorizations: order.authorizations,
    finalize: order.finalize,
    certificate: order.certificate,
    expires: order.expires === undefined ? undefined : new Date(order.expires),
    replaces: order.replaces,
    error: describeError(order.error),
  };
}

/** The problem document inside an order or a challenge, in one line. */
export function describeError(error: unknown): string | undefined {
  if (error === undefined || error === null) return undefined;
  const problem = readProblem(error);
  return problem === undefined ? 'the CA gives no readable reason' : describeProblem(problem);
}

/** The payload of newOrder (section 7.4), with the issuer's profile. */
export function orderPayload(
  issuer: IssuerSpec,
  identifiers: readonly string[],
  directory: Directory,
): object {
  const { profile } = issuer;
  if (profile !== undefined && !(directory.profiles ?? []).includes(profile)) {
    throw unknownProfile(issuer.name, profile, directory.profiles);
  }
  return {
    // RFC 8738: an address is an identifier of type ip.
    identifiers: identifiers.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
    ...(profile === undefined ? {} : { profile }),
  };
}

function unknownProfile(issuer: string, profile: string, offered: readonly string[] | undefined): KacmeError {
  const choice = offered === undefined ? 'it knows no profiles' : `it offers ${offered.join(', ')}`;
  return new KacmeError('ERR_ACME_ORDER', `issuer ${issuer}: the CA has no profile ${profile}: ${choice}`, {
    retry: 'never',
    remedy: `correct or remove issuers.${issuer}.profile`,
  });
}
