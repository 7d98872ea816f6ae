import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import type { CheckReport } from '../domain/finding.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest } from '../domain/revocation.ts';
import type { AdoptionSummary, Progress, ReloadSummary, Status, Summary } from '../domain/status.ts';
import type { ForeignClient } from './adoption-source.ts';

export interface CommandOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

/** Where certificates come from that were issued before kacme came. */
export type AdoptionOrigin =
  | { readonly from: 'hosts' }
  /** `directory` as whoever acts sees it. */
  | { readonly from: ForeignClient; readonly directory: string };

export interface AdoptionRequest {
  readonly origin: AdoptionOrigin;
  /** Empty: every certificate. */
  readonly names: readonly string[];
  readonly dryRun: boolean;
  /** Failed unless every one of them is taken over or held already, and an account wherever one was found. */
  readonly complete: boolean;
}

/** What an operator can ask of kacme: of the running service through its control socket, or of this process. */
export interface KacmeService {
  status(options: { signal: AbortSignal }): Promise<Status>;
  /** Everything that can be known before it hurts; what is tried on the way is taken back. */
  check(options: CommandOptions): Promise<CheckReport>;
  /** The coming renewals of `days` days and their use of the CAs' limits. Only reads. */
  calendar(request: { days: number }, options: { signal: AbortSignal }): Promise<RenewalCalendar>;
  /** kacme's accounts at the CAs, by their word; `issuers` empty: every issuer. Only reads. */
  accounts(
    request: { issuers: readonly string[] },
    options: { signal: AbortSignal },
  ): Promise<readonly AccountView[]>;
  /** Registers, changes, ends or recovers the account of one issuer. */
  changeAccount(request: AccountRequest, options: CommandOptions): Promise<AccountChange>;
  /** Account keys, self-signed bundles, and their installation where nothing better is. Idempotent. */
  bootstrap(options: CommandOptions): Promise<Summary>;
  /** `names` empty: every certificate. Renews what is due (all of them with `force`), then distributes. */
  renew(
    request: { names: readonly string[]; force: boolean; dryRun: boolean },
    options: CommandOptions,
  ): Promise<Summary>;
  /**
   * Makes a new generation from the bundle issued before the active one, or from the one whose fingerprint begins with `to`,
   * then distributes it. The bundle is not renewed for a while.
   */
  rollback(request: { name: string; to: string | undefined }, options: CommandOptions): Promise<Summary>;
  /** Takes over valid certificates instead of ordering new ones, then distributes them. */
  adopt(request: AdoptionRequest, options: CommandOptions): Promise<AdoptionSummary>;
  /** Revokes one bundle of a certificate, with `replace` after its successor is on the hosts. */
  revoke(request: RevokeRequest, options: CommandOptions): Promise<Summary>;
  /** Has HAProxy take its changed configuration over, one host after the other, up to the first that fails. */
  reload(
    request: { pool: string | undefined; host: string | undefined },
    options: CommandOptions,
  ): Promise<ReloadSummary>;
  /** Brings hosts to their bundles now; `host` limits it to one host by its configured name. */
  distribute(request: { host: string | undefined }, options: CommandOptions): Promise<Summary>;
  /** Reads the configuration files again and takes them over whole, or refuses them whole. */
  reloadConfig(options: { signal: AbortSignal }): Promise<void>;
}
