import type { ErrorReport } from './errors.ts';

/** kacme's account at one issuer as `kacme account` shows it; dates are ISO 8601 in UTC. */
export interface AccountView {
  readonly issuer: string;
  readonly directory: string;
  /**
   * `none`: kacme has no key for it yet. `unregistered`: a key that the CA does not know. `valid`, `deactivated` and
   * `revoked` are the CA's words (RFC 8555 section 7.1.6). `unknown`: the CA could not be asked.
   */
  readonly state: 'none' | 'unregistered' | 'valid' | 'deactivated' | 'revoked' | 'unknown';
  readonly url: string | undefined;
  /** As the CA tells; undefined when it keeps them to itself. */
  readonly contact: readonly string[] | undefined;
  readonly configuredContact: readonly string[];
  readonly key: { readonly type: string; readonly thumbprint: string } | undefined;
  /** The list of the account's orders (section 7.1.2.1); few CAs have one. */
  readonly orders: string | undefined;
  /** The terms in force now, which the account may have agreed to in an older form. */
  readonly termsOfService: string | undefined;
  /** Undefined when the CA could not be asked. */
  readonly externalAccountRequired: boolean | undefined;
  readonly externalAccountConfigured: boolean;
  /** What the operator should know, such as a key change that is not finished. */
  readonly notes: readonly string[];
  readonly failure: ErrorReport | undefined;
}

/** What `kacme account` can change. */
export type AccountRequest =
  | { readonly action: 'register' | 'update' | 'rollover' | 'deactivate'; readonly issuer: string }
  | {
      readonly action: 'recover';
      readonly issuer: string;
      /** PEM. Never logged. */
      readonly keyPem: string;
      /** Whether a valid account that kacme has may be forgotten for it. */
      readonly replace: boolean;
    };

/** What a change of an account came to. */
export interface AccountChange {
  /** In one sentence. */
  readonly done: string;
  readonly account: AccountView;
}
