import type { Logger } from 'pino';
import { Supervisor } from '../app/supervisor.ts';
import { reportError } from '../domain/errors.ts';
import type { KacmeConfig } from '../domain/model.ts';
import { startControlServer } from '../http/control-server.ts';
import type { ListeningServer } from '../http/listening.ts';
import { createMetrics } from '../http/metrics.ts';
import { startOperationsServer } from '../http/operations-server.ts';
import type { Leadership } from '../ports/leadership.ts';
import { FileStateStore } from '../store/file-store.ts';
import { SocketLeadership } from '../store/socket-leadership.ts';
import { serveChallenges, wireAdapters } from './adapters.ts';
import { keepMemorySmall } from './memory.ts';
import { Releasers } from './releasers.ts';
import { systemClock } from './system.ts';

export interface ServeOptions {
  readonly config: KacmeConfig;
  readonly loadConfig: (options: { signal: AbortSignal }) => Promise<KacmeConfig>;
  readonly log: Logger;
  readonly version: string;
  /**
   * Calls back whenever the operator asks for the configuration to be read again, at once if that was before; returns how
   * to stop listening.
   */
  readonly onReloadRequested: (callback: () => void) => () => void;
}

const PORT_RETRY_MS = 500;

/** Opens what the service needs, runs it until `signal` aborts, and gives everything back in reverse order. */
export async function serve(
  { config, loadConfig, log, version, onReloadRequested }: ServeOptions,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const releasers = new Releasers();
  try {
    const { file: root } = config.store;
    const store = await FileStateStore.open(root, { clock: systemClock });
    releasers.add('store', () => store.close());
    for (const { key, path, reason } of await store.check({ signal })) {
      log.error({ key, path, reason }, 'a record in the store is damaged');
    }
    const metrics = createMetrics({ version, status: (options) => supervisor.status(options) });
    const depsFor = wireAdapters({ store, log, version, releasers, onAcmeRequest: metrics.countAcmeRequest });
    const leadership = new SocketLeadership(root, { clock: systemClock, command: 'kacme serve' });
    const supervisor = new Supervisor({ config, loadConfig, depsFor, leadership });

    // The control socket first: a second service on the same store ends here, before it takes any port.
    const control = await startControlServer(
      { socketPath: config.control.socket, service: supervisor, log },
      { signal },
    );
    releasers.add('control socket', () => control.close());
    const readiness = async (options: { signal: AbortSignal }) => {
      const reasons = await supervisor.obstacles(options);
      return { ready: reasons.length === 0, reasons };
    };
    const operations = await startOperationsServer(
      { listen: config.operations.listen, metrics, readiness, log },
      { signal },
    );
    releasers.add('operations server', () => operations.close());
    const challenges = await takeChallenges(() => serveChallenges(config, store, log, { signal }), {
      leadership,
      log,
      signal,
    });
    releasers.add('challenge server', () => challenges.close());

    const stopListening = onReloadRequested(() => {
      supervisor.reloadConfig({ signal }).then(
        () => log.info('configuration taken over'),
        (error: unknown) => {
          if (!signal.aborted) log.error({ err: error }, 'configuration refused; the old one stays in force');
        },
      );
    });
    releasers.add('reload requests', async () => stopListening());
    const keepMemory = keepMemorySmall();
    releasers.add('shrinking', async () => keepMemory());
    log.info({ version, challenge: challenges.address, operations: operations.address }, 'kacme is up');
    await supervisor.run({ signal });
    log.info('stopping');
  } catch (error) {
    // Told to stop before it was up.
    if (error !== signal.reason) throw error;
  } finally {
    await releasers.releaseAll(log);
    log.info('stopped');
  }
}

/** A one-shot command answers challenges itself while it runs: the port is free when it ends. */
async function takeChallenges(
  listen: () => Promise<ListeningServer>,
  { leadership, log, signal }: { leadership: Leadership; log: Logger; signal: AbortSignal },
): Promise<ListeningServer> {
  for (let waits = 0; ; waits += 1) {
    // Asked before: a holder that ends meanwhile has given the port back by the next time.
    const holder = await leadership.holder({ signal });
    try {
      return await listen();
    } catch (error) {
      if (holder === undefined || reportError(error).code !== 'ERR_LISTEN') throw error;
      if (waits === 0) log.warn({ err: error, holder }, 'waiting for the challenge port');
      await systemClock.sleep(PORT_RETRY_MS, { signal });
    }
  }
}
