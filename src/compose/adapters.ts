import type { Logger } from 'pino';
import { connectCertificateAuthorities } from '../acme/certificate-authority.ts';
import { createSelfCheck } from '../acme/self-check.ts';
import { readForeignDirectory } from '../adopt/foreign-directory.ts';
import type { AppDeps } from '../app/deps.ts';
import { challengeRecord, loadRecord } from '../app/records.ts';
import { readSecret } from '../config/secret.ts';
import { createResolver } from '../dns/resolver.ts';
import type { KacmeConfig } from '../domain/model.ts';
import { createHaproxyHosts } from '../haproxy/host.ts';
import { startChallengeServer } from '../http/challenge-server.ts';
import type { ListeningServer } from '../http/listening.ts';
import { createPki } from '../pki/pki.ts';
import type { StateStore } from '../ports/state-store.ts';
import { runLocalCommand } from '../ssh/local-command.ts';
import { openHostSession } from '../ssh/open-session.ts';
import { wireHostDirectory } from './directory.ts';
import { loadRegisteredDomain } from './registered-domain.ts';
import type { Releasers } from './releasers.ts';
import { systemClock, systemRandom } from './system.ts';

export interface Surroundings {
  readonly store: StateStore;
  readonly log: Logger;
  readonly version: string;
  readonly releasers: Releasers;
  /** `result` is `ok` or an error code. */
  readonly onAcmeRequest: (issuer: string, result: string) => void;
}

/** The adapters behind the ports. They keep connections open, so one set serves a whole process. */
export function wireAdapters({
  store,
  log,
  version,
  releasers,
  onAcmeRequest,
}: Surroundings): (config: KacmeConfig) => AppDeps {
  const clock = systemClock;
  const random = systemRandom;
  const hosts = createHaproxyHosts({
    openSession: openHostSession({ readSecret, clock, random }),
    runLocally: runLocalCommand,
    clock,
    log,
  });
  releasers.add('connections to hosts', () => hosts.close());
  const authorities = connectCertificateAuthorities({
    readSecret,
    clock,
    log,
    version,
    onRequest: onAcmeRequest,
  });
  releasers.add('connections to CAs', () => authorities.close());
  return (config) => {
    const { resolvers, selfCheck } = config.challenge;
    const resolver = resolvers === 'off' ? undefined : createResolver({ resolvers });
    return {
      store,
      clock,
      random,
      pki: createPki(),
      hosts,
      directory: wireHostDirectory(),
      connectCertificateAuthority: authorities.connect,
      readForeignDirectory,
      loadRegisteredDomain,
      resolver,
      selfCheck: createSelfCheck(selfCheck, resolver),
      log,
    };
  };
}

/** Answers challenges from the store, so that whoever holds the order need not be who answers. */
export async function serveChallenges(
  config: KacmeConfig,
  store: StateStore,
  log: Logger,
  options: { signal: AbortSignal },
): Promise<ListeningServer> {
  return startChallengeServer(
    {
      listen: config.challenge.listen,
      lookup: async (token, { signal }) =>
        (await loadRecord(store, challengeRecord, token, { signal }))?.value.keyAuthorization,
      log,
    },
    options,
  );
}
