import * as z from 'zod';
import { parseDocument } from './document.ts';
import { type AcmeResponse, quote } from './transport.ts';

const directorySchema = z.object({
  newNonce: z.url(),
  newAccount: z.url(),
  newOrder: z.url(),
  revokeCert: z.url().optional(),
  keyChange: z.url().optional(),
  renewalInfo: z.url().optional(),
  meta: z
    .object({
      termsOfService: z.string().optional(),
      caaIdentities: z.array(z.string()).default([]),
      externalAccountRequired: z.boolean().default(false),
      profiles: z.record(z.string(), z.unknown()).optional(),
    })
    .prefault({}),
});

/** RFC 8555 section 7.1.1 */
export interface Directory {
  readonly newNonce: string;
  readonly newAccount: string;
  readonly newOrder: string;
  /** Section 7.6; undefined when the CA leaves it out, against the RFC. */
  readonly revokeCert: string | undefined;
  /** Section 7.3.5; undefined when the CA leaves it out, against the RFC. */
  readonly keyChange: string | undefined;
  /** RFC 9773 section 3; undefined when the CA says nothing about renewal. */
  readonly renewalInfo: string | undefined;
  /** URL of the terms that an account must agree to. */
  readonly termsOfService: string | undefined;
  readonly caaIdentities: readonly string[];
  /** Whether a new account needs an external account binding (section 7.3.4). */
  readonly externalAccountRequired: boolean;
  /** Descriptions by name (draft-ietf-acme-profiles section 3); undefined when the CA knows no profiles. */
  readonly profiles: Readonly<Record<string, string>> | undefined;
}

/** Throws `ERR_ACME_MALFORMED`. */
export function parseDirectory(response: AcmeResponse): Directory {
  const { meta, ...urls } = parseDocument(directorySchema, response);
  return {
    newNonce: urls.newNonce,
    newAccount: urls.newAccount,
    newOrder: urls.newOrder,
    revokeCert: urls.revokeCert,
    keyChange: urls.keyChange,
    renewalInfo: urls.renewalInfo,
    termsOfService: meta.termsOfService,
    caaIdentities: meta.caaIdentities,
    externalAccountRequired: meta.externalAccountRequired,
    profiles: meta.profiles && describeProfiles(meta.profiles),
  };
}

/** They become part of messages, and their form is the CA's own. */
function describeProfiles(profiles: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const described = Object.entries(profiles).map(([name, description]) => [
    name,
    typeof description === 'string' && description !== '' ? quote(description) : 'without a description',
  ]);
  return Object.fromEntries(described);
}
