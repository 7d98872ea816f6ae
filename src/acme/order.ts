import * as z from 'zod';
import { isIpAddress } from '../domain/ip-address.ts';
import type { Order } from '../ports/certificate-authority.ts';
import { parseDocument } from './document.ts';
import { describeProblem, problemTypes, readProblem } from './problem.ts';
import type { AcmeResponse } from './transport.ts';

const orderSchema = z.object({
  status: z.enum(['pending', 'ready', 'processing', 'valid', 'invalid']),
  authorizations: z.array(z.url()).min(1),
  finalize: z.url(),
  certificate: z.url().optional(),
  expires: z.iso.datetime({ offset: true }).optional(),
  replaces: z.string().optional(),
  profile: z.string().optional(),
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
    profile: order.profile,
    error: describeError(order.error),
    problems: problemsOf(order.error),
  };
}

/** The problem document inside an order or a challenge, in one line. */
export function describeError(error: unknown): string | undefined {
  if (error === undefined || error === null) return undefined;
  const problem = readProblem(error);
  return problem === undefined ? 'the CA gives no readable reason' : describeProblem(problem);
}

/** The types of the problems inside an order or a challenge. */
export function problemsOf(error: unknown): readonly string[] {
  const problem = readProblem(error);
  return problem === undefined ? [] : problemTypes(problem);
}

/** The payload of newOrder (section 7.4), with a profile (draft-ietf-acme-profiles section 4) where one is given. */
export function orderPayload(identifiers: readonly string[], profile: string | undefined): object {
  return {
    // RFC 8738: an address is an identifier of type ip.
    identifiers: identifiers.map((value) => ({ type: isIpAddress(value) ? 'ip' : 'dns', value })),
    ...(profile === undefined ? {} : { profile }),
  };
}
