import { access, constants, mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { expectedFailure } from '../app/expected-failure.ts';
import type { WhileServing } from '../app/preflight.ts';
import { servingFrom } from '../app/probes.ts';
import { LocalService } from '../app/service.ts';
import { type CheckReport, Findings } from '../domain/finding.ts';
import type { KacmeConfig } from '../domain/model.ts';
import { startListening } from '../http/listening.ts';
import type { Mandate } from '../ports/leadership.ts';
import type { CommandOptions } from '../ports/service.ts';
import type { StateStore } from '../ports/state-store.ts';
import { FileStateStore } from '../store/file-store.ts';
import { SocketLeadership } from '../store/socket-leadership.ts';
import { serveChallenges, wireAdapters } from './adapters.ts';
import { Releasers } from './releasers.ts';
import { systemClock } from './system.ts';

interface DirectCheckOptions extends CommandOptions {
  readonly config: KacmeConfig;
  readonly log: Logger;
  readonly version: string;
}

const COMMAND = 'kacme check';

/**
 * Checks with no service running. The store is only read: challenges are served from one of the moment, which also
 * stands in for a store that does not exist yet, so that whoever runs this leaves no file of his own in it.
 */
export async function checkDirectly(options: DirectCheckOptions): Promise<CheckReport> {
  const releasers = new Releasers();
  try {
    return await checkWith(options, releasers);
  } finally {
    await releasers.releaseAll(options.log);
  }
}

async function checkWith(
  { config, log, version, signal, onProgress }: DirectCheckOptions,
  releasers: Releasers,
): Promise<CheckReport> {
  const findings = new Findings('service', 'kacme');
  const scratch = await openScratch(releasers, { signal });
  const held = await lookAtStore(config, findings, releasers, { signal });
  const whileServing = await listen(config, { scratch, log, findings, releasers }, { signal });
  const depsFor = wireAdapters({
    store: held.store ?? scratch.store,
    log,
    version,
    releasers,
    onAcmeRequest: () => {},
  });
  const service = new LocalService(config, depsFor(config), { mandate: undefined });
  // Where there is no store, there is nobody who could hold it.
  const mandate = held.exists ? held.mandate : scratch.mandate;
  return service.check({ mandate, whileServing, service: findings.list }, { signal, onProgress });
}

interface Scratch {
  readonly store: StateStore;
  readonly mandate: Mandate;
}

async function openScratch(releasers: Releasers, { signal }: { signal: AbortSignal }): Promise<Scratch> {
  const directory = await mkdtemp(join(tmpdir(), 'kacme-check-'));
  releasers.add('store of the moment', () => rm(directory, { recursive: true, force: true }));
  const leadership = new SocketLeadership(directory, { clock: systemClock, command: COMMAND });
  const mandate = await leadership.campaign({ signal });
  releasers.add('lock of the moment', () => mandate.release());
  const store = await FileStateStore.open(directory, { clock: systemClock });
  releasers.add('store of the moment', () => store.close());
  return { store, mandate };
}

interface Held {
  readonly exists: boolean;
  readonly store: StateStore | undefined;
  /** Undefined when another kacme holds the store. */
  readonly mandate: Mandate | undefined;
}

async function lookAtStore(
  config: KacmeConfig,
  findings: Findings,
  releasers: Releasers,
  { signal }: { signal: AbortSignal },
): Promise<Held> {
  const { file: root } = config.store;
  try {
    if (!(await exists(root))) {
      await judgeParent(root, findings);
      return { exists: false, store: undefined, mandate: undefined };
    }
    const store = await FileStateStore.open(root, { clock: systemClock, readOnly: true });
    releasers.add('store', () => store.close());
    const leadership = new SocketLeadership(root, { clock: systemClock, command: COMMAND });
    const mandate = await leadership.tryAcquire({ signal });
    if (mandate !== undefined) releasers.add('lock', () => mandate.release());
    const holder = mandate === undefined ? await leadership.holder({ signal }) : undefined;
    if (holder === undefined) findings.ok('store', root);
    else findings.warning('store', `${root} is held by ${holder}`, 'run this again when it has finished');
    return { exists: true, store, mandate };
  } catch (error) {
    findings.error('store', expectedFailure(error, { signal }));
    return { exists: true, store: undefined, mandate: undefined };
  }
}

/** The store's directory is made by whoever first needs it. */
async function judgeParent(root: string, findings: Findings): Promise<void> {
  let parent = dirname(root);
  while (!(await exists(parent))) parent = dirname(parent);
  try {
    await access(parent, constants.W_OK | constants.X_OK);
    findings.ok('store', `${root} does not exist yet: kacme makes it`);
  } catch {
    // The one thing that access(2) tells is that it may not.
    const remedy = `make ${root}, mode 0700, for the user that kacme runs as`;
    findings.failed('store', `${root} does not exist, and this user may not make it in ${parent}`, remedy);
  }
}

const exists = async (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
      throw error;
    },
  );

/** Both ports; undefined when challenges cannot be served here. */
async function listen(
  config: KacmeConfig,
  {
    scratch,
    log,
    findings,
    releasers,
  }: { scratch: Scratch; log: Logger; findings: Findings; releasers: Releasers },
  { signal }: { signal: AbortSignal },
): Promise<WhileServing | undefined> {
  const attempt = async (check: string, start: () => Promise<{ close(): Promise<void> }>) => {
    try {
      const server = await start();
      releasers.add(check, () => server.close());
      findings.ok(check, 'free');
      return true;
    } catch (error) {
      findings.error(check, expectedFailure(error, { signal }));
      return false;
    }
  };
  await attempt('operations port', () =>
    startListening(
      createServer(),
      {
        listen: config.operations.listen,
        name: 'operations server',
        remedy: 'stop what uses it, or set operations.listen to another address',
        log,
      },
      { signal },
    ),
  );
  const { store, mandate } = scratch;
  const served = await attempt('challenge port', () => serveChallenges(config, store, log, { signal }));
  return served ? servingFrom({ store, clock: systemClock, log }, { signal, mandate }) : undefined;
}
