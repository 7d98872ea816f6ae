import type { Logger } from 'pino';
import type { RegisteredDomain } from '../domain/registered-domain.ts';
import type { ReadForeignDirectory } from '../ports/adoption-source.ts';
import type { ConnectCertificateAuthority } from '../ports/certificate-authority.ts';
import type { Clock, Random } from '../ports/clock.ts';
import type { HaproxyHosts } from '../ports/haproxy-host.ts';
import type { HostDirectory } from '../ports/host-directory.ts';
import type { Pki } from '../ports/pki.ts';
import type { Resolver } from '../ports/resolver.ts';
import type { SelfCheck } from '../ports/self-check.ts';
import type { StateStore } from '../ports/state-store.ts';

/** What the application stands on; `main.ts` fills it with adapters. */
export interface AppDeps {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly pki: Pki;
  readonly hosts: HaproxyHosts;
  readonly directory: HostDirectory;
  readonly connectCertificateAuthority: ConnectCertificateAuthority;
  /** Undefined when the configuration turns DNS off. */
  readonly resolver: Resolver | undefined;
  /** Undefined when the configuration turns it off. */
  readonly selfCheck: SelfCheck | undefined;
  readonly readForeignDirectory: ReadForeignDirectory;
  readonly loadRegisteredDomain: () => Promise<RegisteredDomain>;
  readonly log: Logger;
}
