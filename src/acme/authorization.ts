import * as z from 'zod';
import { canonicalIdentifier } from '../domain/ip-address.ts';
import type { Authorization } from '../ports/certificate-authority.ts';
import { parseDocument } from './document.ts';
import { describeError, problemsOf } from './order.ts';
import { problemTypeOf } from './problem-types.ts';
import type { AcmeSigner } from './signer.ts';
import type { AcmeResponse } from './transport.ts';

const challengeSchema = z.object({
  type: z.string(),
  url: z.string(),
  token: z.string().optional(),
  error: z.unknown().optional(),
});

const authorizationSchema = z.object({
  status: z.enum(['pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked']),
  identifier: z.object({ type: z.string(), value: z.string() }),
  wildcard: z.boolean().optional(),
  challenges: z.array(challengeSchema),
});

/** RFC 8555 section 8.3: base64url. It becomes part of a path, so nothing else is let in. */
const TOKEN = /^[A-Za-z0-9_-]+$/;

/** RFC 8555 section 7.1.4. Throws `ERR_ACME_MALFORMED`. */
export function parseAuthorization(url: string, response: AcmeResponse, signer: AcmeSigner): Authorization {
  const { status, identifier, wildcard, challenges } = parseDocument(authorizationSchema, response);
  const failed = challenges.find(({ error }) => error !== undefined && error !== null);
  const http01 = challenges.find(({ type, token }) => type === 'http-01' && TOKEN.test(token ?? ''));
  return {
    url,
    identifier: wildcard === true ? `*.${identifier.value}` : canonicalIdentifier(identifier.value),
    status,
    http01:
      http01?.token === undefined
        ? undefined
        : {
            url: http01.url,
            token: http01.token,
            keyAuthorization: signer.keyAuthorization(http01.token),
          },
    error: describeError(failed?.error),
    problems: problemsOf(failed?.error),
    remedy: remedyOf(problemsOf(failed?.error)),
  };
}

/** Undefined when none of the types is known. */
function remedyOf(problems: readonly string[]): string | undefined {
  const remedies = problems.flatMap((type) => {
    // Of a request it is about the account; of a validation, about what answered in the name's place.
    const known = problemTypeOf(type === 'unauthorized' ? 'incorrectResponse' : type);
    return known?.remedy ?? [];
  });
  return remedies.length === 0 ? undefined : [...new Set(remedies)].join('; ');
}
