import type { z } from 'zod';
import { type AcmeResponse, malformedError, parseJson, quote } from './transport.ts';

/** The JSON document in an answer. Throws `ERR_ACME_MALFORMED` and says which field is wrong. */
export function parseDocument<T>(schema: z.ZodType<T>, response: AcmeResponse): T {
  const document = parseJson(response.body);
  if (typeof document !== 'object' || document === null) {
    throw malformedError(response.request, `no JSON document, but ${quote(response.body)}`);
  }
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'document'}: ${message}`);
  throw malformedError(response.request, wrong.join('; '));
}

/** The URL of what was just created (RFC 8555 sections 7.3 and 7.4). Throws `ERR_ACME_MALFORMED`. */
export function requireLocation(response: AcmeResponse): string {
  const location = response.header('location');
  if (location === undefined || !URL.canParse(location, response.request.url)) {
    throw malformedError(response.request, 'it carries no Location, so that nobody knows what was created');
  }
  return new URL(location, response.request.url).href;
}
