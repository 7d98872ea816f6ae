import * as z from 'zod';
import { parseDocument } from './document.ts';
import { type AcmeResponse, quote } from './transport.ts';

const directorySchema = z.object({
  newNonce: z.url(),
  newAccount: z.url(),
  newOrder: z.url(),
  renewalInfo: z.url().optional(),
  meta: z
    .object({
      termsOfService: z.string().optional(),
      caaIdentities: z.array(z.string()).default([]),
      profiles: z.record(z.string(), z.unknown()).optional(),
    })
    .default({ caaIdentities: [] }),
});

/** RFC 8555 section 7.1.1 */
export interface Directory {
  readonly newNonce: string;
  readonly newAccount: string;
  readonly newOrder: string;
  /** RFC 9773 section 3; undefined when the CA says nothing about renewal. */
  readonly renewalInfo: string | undefined;
  /** URL of the terms that an account must agree to. */
  readonly termsOfService: string | undefined;
  readonly caaIdentities: readonly string[];
  /** Descriptions by name (draft-ietf-acme-profiles section 3); undefined when the CA knows no profiles. */
  readonly profiles: Readonly<Record<string, string>> | undefined;
}

/** Throws `ERR_ACME_MALFORMED`. */
export function parseDirectory(response: AcmeResponse): Directory {
  const { meta, newNonce, newAccount, newOrder, renewalInfo } = parseDocument(directorySchema, response);
  return {
    newNonce,
    newAccount,
    newOrder,
    renewalInfo,
    termsOfService: meta.termsOfService,
    caaIdentities: meta.caaIdentities,
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
