/** A certificate with its key that another program, or a host, holds. */
export interface FoundBundle {
  /** For people: a file, or a file on a host. */
  readonly where: string;
  /** Leaf, chain and key as PEM, in whatever order the source has them; not judged yet. */
  readonly pem: string;
  /** A URL at the CA that issued it; undefined when the source does not say. */
  readonly caUrl: string | undefined;
}

/** An ACME account (RFC 8555 section 7.1.2) that another program holds. */
export interface FoundAccount {
  readonly where: string;
  readonly keyPem: string;
  /** The account's URL at the CA. */
  readonly url: string;
}

/** `problems`: what could not be read, each with its reason; the rest is whole. */
export interface AdoptionFindings {
  readonly bundles: readonly FoundBundle[];
  readonly accounts: readonly FoundAccount[];
  readonly problems: readonly { readonly where: string; readonly reason: string }[];
}

export type ForeignClient = 'lego' | 'certbot';

/**
 * Reads the directory of another ACME client and changes nothing there. Throws `ERR_ADOPTION_SOURCE` when it is not such
 * a directory or cannot be read.
 */
export type ReadForeignDirectory = (
  client: ForeignClient,
  directory: string,
  options: { signal: AbortSignal },
) => Promise<AdoptionFindings>;
