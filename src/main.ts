import packageJson from '../package.json' with { type: 'json' };
import type { CliContext, GlobalOptions } from './cli/context.ts';
import { createLogger } from './cli/logging.ts';
import { runCli } from './cli/program.ts';
import { loadConfig } from './config/load.ts';
import { KacmeError } from './domain/errors.ts';
import type { KacmeConfig } from './domain/model.ts';
import { connectControl } from './http/control-client.ts';

const { version } = packageJson;
const stop = new AbortController();

/** The first signal asks for a clean stop, the second one forces it. */
function onStopSignal(signal: NodeJS.Signals, exitStatus: number): void {
  process.on(signal, () => {
    if (stop.signal.aborted) process.exit(exitStatus);
    stop.abort(
      new KacmeError('ERR_ABORTED', `stopped by ${signal} before it was done`, {
        retry: 'later',
        remedy: 'run it again when it suits: what was done is kept, what was begun is taken up or was undone',
      }),
    );
  });
}
/**
 * Takes SIGHUP from now on: Node ends a process that does not. What is asked for before anybody can do it is done as
 * soon as somebody can; after that, it is too late for it.
 */
function takeReloadRequests(): (callback: () => void) => () => void {
  let requested = false;
  let act = () => {
    requested = true;
  };
  process.on('SIGHUP', () => act());
  return (callback) => {
    act = callback;
    if (requested) callback();
    return () => {
      act = () => undefined;
    };
  };
}

onStopSignal('SIGTERM', 143);
onStopSignal('SIGINT', 130);

const context: CliContext = {
  signal: stop.signal,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  version,
  now: () => new Date(),
  connect: async (options, { signal }) => {
    const config = await loadConfig(options.configPaths, { signal });
    const findService = (cancellation: { signal: AbortSignal }) =>
      connectControl(config.control.socket, cancellation);
    const running = await findService({ signal });
    if (running !== undefined) return { service: running, via: 'control socket', close: async () => {} };
    // Everything that does the work itself is loaded only now: asking a running service stays quick.
    const { DirectService } = await import('./compose/direct-service.ts');
    // The command tells what was done and what failed: the log is for whoever asks for it.
    const log = createLogger({
      level: options.logLevel ?? 'silent',
      destination: process.stderr,
      env: process.env,
    });
    const service = new DirectService(config, { findService, log, version });
    return { service, via: 'direct', close: () => service.close() };
  },
  scanHosts: async (options, request, { signal }) => {
    const config = await loadConfig(options.configPaths, { signal });
    const { scanConfiguredHosts } = await import('./compose/scan.ts');
    return scanConfiguredHosts(config, request, { signal });
  },
  discoverHosts: async (config, request) => {
    const { discoverHosts } = await import('./compose/directory.ts');
    return discoverHosts(config, request);
  },
  serve: async (options, { signal }) => {
    const onReloadRequested = takeReloadRequests();
    const config = await loadConfig(options.configPaths, { signal });
    const { serve } = await import('./compose/serve.ts');
    await serve(
      {
        config,
        loadConfig: (cancellation) => loadConfig(options.configPaths, cancellation),
        log: serviceLogger(config, options),
        version,
        onReloadRequested,
      },
      { signal },
    );
  },
};

function serviceLogger(config: KacmeConfig, { logLevel }: GlobalOptions) {
  return createLogger({ level: logLevel ?? config.log.level, destination: process.stderr, env: process.env });
}

process.exitCode = await runCli(process.argv.slice(2), context);
