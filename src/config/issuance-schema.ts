import * as z from 'zod';
import { LIMIT_NAMES } from '../domain/rate-limits.ts';
import { KeyTypes } from './dual-schema.ts';
import {
  absolutePath,
  duration,
  flag,
  identifier,
  oneOf,
  SecretReference,
  section,
  text,
  url,
  whole,
} from './fields.ts';
import { didYouMean } from './suggestion.ts';

const ONE_LIMIT = '{ count: 300, per: 3h }, or none';

const Limit = z.union(
  [
    z.literal('none'),
    section(
      {
        count: whole(1, 1_000_000).describe('How many the CA lets through at once.'),
        per: duration({ min: '1s', max: '366d' }).describe(
          'Time in which all of them come back, one by one.',
        ),
      },
      { expected: ONE_LIMIT },
    ),
  ],
  { error: `expected ${ONE_LIMIT}` },
);

const LIMITS = 'expected none, or a map of limits such as { ordersPerAccount: { count: 300, per: 3h } }';

const Limits = z.union(
  [
    z.literal('none'),
    z.partialRecord(oneOf(LIMIT_NAMES), Limit, {
      error: (issue: z.core.$ZodRawIssue) =>
        issue.code === 'unrecognized_keys' ? issue.keys.map(noSuchLimit).join('\n') : LIMITS,
    }),
  ],
  { error: LIMITS },
);

const noSuchLimit = (name: string): string =>
  `expected one of ${LIMIT_NAMES.join(', ')}${didYouMean(name, LIMIT_NAMES)}`;

const PROXY = 'http://proxy.example.org:3128';
const PROXY_MAP = '{ url: URL, user: NAME, password: { file: PATH } }';

const proxyUrl = () => url(['http', 'https'], PROXY).describe('URL of the proxy, without a password.');

const IssuerProxy = z.union(
  [
    proxyUrl().transform((text) => ({ url: text, credentials: undefined })),
    section(
      {
        url: proxyUrl(),
        user: text('the name of a user, without a colon', /^[^:\s]+$/).describe('User that the proxy knows.'),
        password: SecretReference.describe('Password of that user.'),
      },
      { expected: PROXY_MAP },
    ).transform(({ url, ...credentials }) => ({ url, credentials })),
  ],
  {
    error: ({ input }: { input?: unknown }) =>
      typeof input === 'string' && /^https?:\/\/[^/]*@/.test(input)
        ? `expected ${PROXY_MAP}: a URL holds no user name or password here, it is logged`
        : `expected the URL of a proxy, such as ${PROXY}, or ${PROXY_MAP}`,
  },
);

const profile = () =>
  text('the name of a profile that the CA offers, such as tlsserver', /^[\w.-]+$/).optional();

const preferredChain = () =>
  text('the common name of a root, such as "ISRG Root X1"', /^\S(?:.*\S)?$/).optional();

/** `issuers.NAME`. */
export const Issuer = section(
  {
    directory: url(['https'], 'https://acme-v02.api.letsencrypt.org/directory').describe(
      'URL of the ACME directory (RFC 8555 section 7.1.1).',
    ),
    contact: z
      .array(text('an address such as mailto:ops@example.org', /^mailto:[^\s?,@]+@[^\s?,@]+$/), {
        error: 'expected a list of addresses such as [mailto:ops@example.org]',
      })
      .prefault([])
      .describe('Addresses that the CA may write to.'),
    termsOfServiceAgreed: z
      .literal(true, {
        error:
          'expected true: a CA registers no account before its terms of service, which its directory names, ' +
          'were read and agreed to',
      })
      .describe("That you have read the CA's terms of service and agree to them."),
    profile: profile().describe('Certificate profile to ask for; the CA chooses when it is not given.'),
    preferredChain: preferredChain().describe(
      'Common name of the root that the chain should lead to; the CA chooses when it is not given.',
    ),
    eab: section(
      {
        keyId: text('the key identifier that the CA gave', /^\S+$/).describe(
          'Key identifier that the CA gave.',
        ),
        hmacKey: SecretReference.describe('Its HMAC key, base64url.'),
      },
      { expected: '{ keyId: ID, hmacKey: { file: PATH } }' },
    )
      .optional()
      .describe('External account binding (RFC 8555 section 7.3.4).'),
    caFile: absolutePath('/etc/kacme/private-ca.pem')
      .optional()
      .describe(
        "PEM file with the roots that sign the CA's own HTTPS certificate, when Node's own roots lack them.",
      ),
    proxy: IssuerProxy.optional().describe(
      'HTTP proxy on the way to the CA, which has to allow CONNECT; HTTPS_PROXY is not looked at.',
    ),
    timeout: duration({ min: '1s', max: '10m' }).prefault('30s').describe('Bound of one request to the CA.'),
    limits: Limits.optional().describe(
      "Rate limits of the CA that kacme keeps to by itself; Let's Encrypt's own at Let's Encrypt by default.",
    ),
    stagingFirst: z
      .string({ error: "expected the name of another issuer, such as one of the CA's staging directory" })
      .optional()
      .describe('Another issuer, at which a certificate is rehearsed before this one is first asked for it.'),
  },
  { expected: 'an issuer: directory, contact, termsOfServiceAgreed' },
);

/** `certificates.NAME`. */
export const Certificate = section(
  {
    identifiers: z
      .array(identifier(), { error: 'expected a list of DNS names and IP addresses' })
      .min(1, 'expected at least one DNS name or IP address')
      .describe(
        'DNS names and IP addresses the certificate is for; international names are turned into A-labels.',
      ),
    issuers: z
      .array(z.string({ error: 'expected the name of an issuer' }), {
        error: 'expected a list of names of issuers',
      })
      .min(1, 'expected at least one issuer')
      .describe('Issuers in order of preference: the next one is tried when one keeps failing.'),
    key: KeyTypes.prefault('ecdsa-p256').describe(
      'Type of the private key; one ECDSA and one RSA type for a dual certificate.',
    ),
    profile: profile().describe("Certificate profile to ask for, in place of the issuer's."),
    preferredChain: preferredChain().describe(
      "Common name of the root that the chain should lead to, in place of the issuer's.",
    ),
    reuseKey: flag()
      .prefault(false)
      .describe('Whether renewals keep the private key, as pinned public keys (DANE) need it.'),
  },
  {
    expected: 'a certificate: identifiers, issuers, key',
    later: { challenge: 'HTTP-01 is the only kind of challenge; DNS-01, and wildcards with it, are planned' },
  },
);
