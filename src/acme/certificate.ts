import type { X509Certificate } from 'node:crypto';
import { KacmeError } from '../domain/errors.ts';
import { certificatesIn } from '../domain/x509.ts';
import { linkTargets } from './link.ts';
import { type AcmeResponse, describeRequest, malformedError, quote } from './transport.ts';

/** RFC 8555 section 7.4.2: asked for, so that no CA chooses another form. */
export const PEM_CHAIN = 'application/pem-certificate-chain';

/**
 * The chain in an answer, leaf first. Throws `ERR_ACME_MALFORMED` when there is none in it, which may pass, and
 * `ERR_CERTIFICATE_UNUSABLE` for one that its CA got wrong.
 */
export function parseChain(response: AcmeResponse): string {
  const chain = readChain(response);
  const why = flawOf(chain);
  if (why === undefined) return response.body;
  throw new KacmeError(
    'ERR_CERTIFICATE_UNUSABLE',
    `${describeRequest(response.request)}: the CA's chain is not usable: ${why}`,
    {
      retry: 'later',
      remedy: 'the bundle in use stays; if it happens again, ask the CA or name another issuer',
    },
  );
}

/** More than any CA offers. */
const MOST_ALTERNATES = 10;

/** Where the CA offers other chains of the same certificate: `Link: <URL>;rel="alternate"`. */
export function parseAlternates(response: AcmeResponse): readonly string[] {
  const urls = linkTargets(response.headers('link'), 'alternate', response.request.url);
  return [...new Set(urls)].filter((url) => url.startsWith('https:')).slice(0, MOST_ALTERNATES);
}

function readChain(response: AcmeResponse): readonly X509Certificate[] {
  const { request, body } = response;
  const complete = count(body, '-----BEGIN CERTIFICATE-----') === count(body, '-----END CERTIFICATE-----');
  const unreadable = (why: string, options?: ErrorOptions) => malformedError(request, why, options);
  if (!complete) throw unreadable('the PEM chain in it breaks off');
  let chain: readonly X509Certificate[];
  try {
    chain = certificatesIn(body);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw unreadable(`a certificate in it cannot be parsed: ${reason}`, { cause: error });
  }
  if (chain.length === 0) throw unreadable(`no PEM chain, but ${quote(body)}`);
  return chain;
}

const count = (text: string, part: string): number => text.split(part).length - 1;

function flawOf(chain: readonly X509Certificate[]): string | undefined {
  if (chain[0]?.ca === true) return 'it begins with the certificate of a CA, not with the leaf';
  const gap = chain.findIndex((certificate, i) => i > 0 && chain[i - 1]?.checkIssued(certificate) === false);
  return gap === -1 ? undefined : `certificate ${gap + 1} did not issue certificate ${gap}`;
}
