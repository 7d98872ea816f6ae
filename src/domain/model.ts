import type { MaintenanceWindow } from './maintenance-window.ts';
import type { RateLimits } from './rate-limits.ts';

/**
 * What an operator declares, once validated: the nouns of the configuration. Durations are milliseconds,
 * references to secrets are not resolved yet (`SecretRef`), host lists are parsed.
 */

export type KeyType = 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-2048' | 'rsa-3072' | 'rsa-4096';

/** What a TLS client chooses by: the signature algorithms that it offers (RFC 8446 section 4.2.3). */
export type KeyFamily = 'ecdsa' | 'rsa';

export type SecretRef = { readonly file: string } | { readonly env: string };

/** An ACME directory and an account there (RFC 8555 section 7.1.1, 7.1.2). */
export interface IssuerSpec {
  readonly name: string;
  readonly directory: string;
  readonly contact: readonly string[];
  readonly termsOfServiceAgreed: boolean;
  /** Certificate profile (draft-ietf-acme-profiles) of the certificates that do not choose one themselves. */
  readonly profile: string | undefined;
  /** Common name of the root that the chain should lead to, for the certificates that do not choose one themselves. */
  readonly preferredChain: string | undefined;
  readonly eab: { readonly keyId: string; readonly hmacKey: SecretRef } | undefined;
  /**
   * PEM file with the roots that sign the CA's own HTTPS certificate. When undefined: those bundled with Node and those
   * of NODE_EXTRA_CA_CERTS; never the system's.
   */
  readonly caFile: string | undefined;
  /** What stands between this machine and the CA; variables such as HTTPS_PROXY are not looked at. */
  readonly proxy: ProxySpec | undefined;
  /** Bound of one request to the CA. */
  readonly timeoutMs: number;
  /** What the CA allows; kacme waits instead of exceeding it. */
  readonly limits: RateLimits;
  /** The issuer that must issue a certificate of these names before this one is asked for its first. */
  readonly stagingFirst: string | undefined;
}

/** An HTTP proxy that allows CONNECT. */
export interface ProxySpec {
  readonly url: string;
  readonly credentials: { readonly user: string; readonly password: SecretRef } | undefined;
}

export interface CertificateSpec {
  readonly name: string;
  /**
   * DNS names (lower case, A-labels) and IP addresses (`canonicalIdentifier`), at least one, no duplicates. What a
   * certificate says of itself (`factsOf`) has the same form, so that the two compare as text.
   */
  readonly identifiers: readonly string[];
  /** Names of issuers in order of preference, at least one. */
  readonly issuers: readonly string[];
  readonly key: KeyType;
  /** In place of the issuer's. */
  readonly profile: string | undefined;
  /** In place of the issuer's. */
  readonly preferredChain: string | undefined;
  /** Whether a renewal keeps the key of the bundle in use (`decideKey`). */
  readonly reuseKey: boolean;
  /** Of the two halves of a dual certificate (one ECDSA, one RSA): the name that it is configured by. */
  readonly dualOf?: string;
}

/** Where one host's sshd answers. `name` is the address, unless the operator gave it a name. */
export interface HostSpec {
  readonly name: string;
  /** A name, or an IP address in its canonical form (RFC 5952), without brackets. */
  readonly address: string;
  readonly port: number;
  /** Under which its host key may be pinned besides the address: the target of the SRV record that led to it. */
  readonly hostKeyName?: string;
  /** In what the host differs from its pool, each section whole: see `effectivePool`. */
  readonly overrides?: Partial<Pick<PoolSpec, 'ssh' | 'haproxy' | 'verify' | 'reload'>>;
}

export interface SshSpec {
  readonly user: string;
  readonly identity: SecretRef;
  readonly knownHosts: string;
  /** Bound of TCP connect plus SSH handshake plus login. */
  readonly connectTimeoutMs: number;
  /** How SFTP is reached: the subsystem, or an executed sftp-server (its path), as in Kolla's container. */
  readonly sftp: 'subsystem' | { readonly exec: string };
  /** What the hosts are reached through, the nearest one first. Empty: directly. */
  readonly jumps: readonly JumpSpec[];
}

/** An sshd that forwards connections to others; its host key is pinned as strictly as theirs. */
export interface JumpSpec {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly identity: SecretRef;
  readonly knownHosts: string;
}

export interface HaproxySpec {
  /** Stats socket with `level admin`, as the SSH side sees it. */
  readonly socket: string | undefined;
  /** Master CLI socket (`haproxy -S`). */
  readonly masterSocket: string | undefined;
}

/** How the HAProxy of a pool takes over what only a reload brings. `{host}` in an argument is the host's address. */
export interface ReloadSpec {
  /** A program and its arguments that make HAProxy reload. Undefined: `reload` of the master CLI. */
  readonly command: readonly string[] | undefined;
  /** Brings a changed configuration to where HAProxy reads it, before `kacme reload` validates it. */
  readonly prepare: readonly string[] | undefined;
  /** Checks the configuration before each reload; undefined leaves it to HAProxy itself. */
  readonly validate: readonly string[] | undefined;
  /** Where these commands run: on the host itself, or where kacme runs. */
  readonly on: 'host' | 'kacme';
  /** Bound of each command, and then of the wait for the new worker. */
  readonly timeoutMs: number;
}

export interface VerifySpec {
  /** `address:port` templates; `{host}` stands for the host's address. Empty: nothing can be verified. */
  readonly connect: readonly string[];
  /** TLS handshakes per entry of `connect`. */
  readonly handshakes: number;
  readonly timeoutMs: number;
  /** Where they start: here (also when undefined), on the host itself, or on its last jump host; the latter two over SSH. */
  readonly through?: 'direct' | 'host' | 'jump';
}

/** What names the hosts of a pool, and is asked again and again. */
export type DiscoverySpec =
  /** A and AAAA records: each address is a host, whose sshd answers at `port`. */
  | (DnsSource & { readonly kind: 'dns'; readonly port: number })
  /** SRV records (RFC 2782): each target and port is a host. */
  | (DnsSource & { readonly kind: 'srv' })
  /** One host a line; `port` is that of those without one. */
  | { readonly kind: 'file'; readonly path: string; readonly port: number };

interface DnsSource {
  readonly name: string;
  /** Asked in this order; undefined: those of the system. */
  readonly resolvers: readonly Listen[] | undefined;
  /** Between two looks. */
  readonly refreshMs: number;
}

/** Hosts that are configured alike. */
export interface PoolSpec {
  readonly name: string;
  /** As listed. Empty when they are discovered: who they are at present, `Roster` knows. */
  readonly hosts: readonly HostSpec[];
  /** Where the hosts are learned from, in the place of a list. */
  readonly discovery?: DiscoverySpec;
  /** `undefined` exactly when the pool is `local: true`. */
  readonly ssh: SshSpec | undefined;
  readonly haproxy: HaproxySpec;
  readonly verify: VerifySpec;
  /** Undefined: HAProxy is never reloaded by kacme. */
  readonly reload: ReloadSpec | undefined;
  /** When kacme may reload it for a certificate; undefined: at any time. A swap needs no window. */
  readonly maintenanceWindow?: MaintenanceWindow;
  /** Hosts that are changed side by side after the canary. */
  readonly parallel: number;
  /** This many hosts that do not verify after the canary did halt a rollout for the others. */
  readonly stopAfter: number;
}

/** Which certificate goes to which pool, at which path. */
export interface DeploymentSpec {
  readonly certificate: string;
  readonly pool: string;
  /** The name HAProxy knows the bundle by: its `crt` argument. */
  readonly path: string;
  /** The same file as the SSH side sees it. */
  readonly file: string;
  /** More paths (SSH side) to keep equal to `file`. */
  readonly copies: readonly string[];
  /** Permission bits of the installed file; kacme writes 0600 first and widens it after. */
  readonly mode: number;
  readonly owner: number | undefined;
  readonly group: number | undefined;
  readonly takeOver: boolean;
  /** The list of HAProxy that names `path` (`bind ... crt-list`); undefined: a `crt` argument names it. */
  readonly crtList?: CrtListSpec;
  /** Of half a dual certificate: its key family. Handshakes that verify the place offer no other. */
  readonly family?: KeyFamily;
}

export interface CrtListSpec {
  /** The name HAProxy knows the list by. */
  readonly path: string;
  /** The same file as the SSH side sees it. */
  readonly file: string;
}

export interface SelfCheckSpec {
  /** URL of what to connect to instead of each identifier's own addresses. */
  readonly via: string | undefined;
  /** Fetches from each address, one after the other: HAProxy hosts behind it may differ. */
  readonly passes: number;
}

export interface Listen {
  readonly host: string;
  readonly port: number;
}

export interface KacmeConfig {
  readonly issuers: Readonly<Record<string, IssuerSpec>>;
  readonly certificates: Readonly<Record<string, CertificateSpec>>;
  readonly pools: Readonly<Record<string, PoolSpec>>;
  readonly deployments: readonly DeploymentSpec[];
  readonly challenge: {
    readonly listen: Listen;
    /**
     * Asked for addresses and CAA records before an order, in this order; undefined: those of the system. `off`: DNS is
     * not looked at.
     */
    readonly resolvers: readonly Listen[] | undefined | 'off';
    /** How kacme tests that a challenge can be fetched before it asks the CA. */
    readonly selfCheck: 'off' | SelfCheckSpec;
  };
  readonly operations: { readonly listen: Listen };
  readonly control: { readonly socket: string };
  readonly store: { readonly file: string };
  readonly reconcile: {
    /** Between two observations of a host. At most 30 s, so that drift is repaired within that time. */
    readonly everyMs: number;
  };
  /** Old bundles (keys included) kept per certificate besides the active one. */
  readonly keepBundles: number;
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' };
}
