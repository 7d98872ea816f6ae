import { KacmeError } from '../domain/errors.ts';
import { certificatesIn } from '../domain/x509.ts';
import { linkTargets } from './link.ts';
import { type AcmeResponse, describeRequest } from './transport.ts';

/** RFC 8555 section 7.4.2: asked for, so that no CA chooses another form. */
export const PEM_CHAIN = 'application/pem-certificate-chain';

/** The chain in an answer, leaf first. Throws `ERR_CERTIFICATE_UNUSABLE`. */
export function parseChain(response: AcmeResponse): string {
  const why = flawOf(response.body);
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

function flawOf(pem: string): string | undefined {
  try {
    const chain = certificatesIn(pem);
    if (chain.length === 0) return 'it holds no certificate';
    if (chain[0]?.ca === true) return 'it begins with the certificate of a CA, not with the leaf';
    const gap = chain.findIndex(
      (certificate, i) => i > 0 && chain[i - 1]?.checkIssued(certificate) === false,
    );
    return gap === -1 ? undefined : `certificate ${gap + 1} did not issue certificate ${gap}`;
  } catch (error) {
    return `a certificate in it cannot be parsed: ${error instanceof Error ? error.message : String(error)}`;
  }
}
