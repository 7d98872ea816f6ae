import { KacmeError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { DeploymentSpec, PoolSpec } from '../domain/model.ts';
import type { HostObservation, PlaceObservation, WorkersObservation } from '../domain/observation.ts';
import type { Clock } from '../ports/clock.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { FileMemory } from './file-memory.ts';
import type { Connect } from './haproxy-socket.ts';
import { unlessUnreadable } from './host-file.ts';
import { MasterCli } from './master-cli.ts';
import { type ListedPaths, lookAtCrtLists, readCrtListFiles } from './observe-crt-lists.ts';
import { RuntimeApi, type RuntimeApiOptions, type RuntimeView } from './runtime-api.ts';

/** One host as the parts of this adapter see it. */
export interface HostView {
  /** `pool/host`, for messages. */
  readonly label: string;
  readonly pool: PoolSpec;
  readonly session: HostSession;
  readonly clock: Clock;
}

/**
 * The files and HAProxy's memory, read side by side. Changes nothing. A file that cannot be read keeps its own place
 * from being observed, and no other one; when none can be, the host cannot.
 */
export async function observeHost(
  view: HostView,
  memory: FileMemory,
  deployments: readonly DeploymentSpec[],
  { signal }: { signal: AbortSignal },
): Promise<HostObservation> {
  const { session, label } = view;
  const [running, lists, ...files] = await Promise.all([
    observeHaproxy(view, deployments, { signal }),
    readCrtListFiles(session, label, deployments, { signal }),
    ...deployments.map(({ file, copies }) => {
      const reading = [file, ...copies].map((path) => memory.observe(session, label, path, { signal }));
      return unlessUnreadable(session, Promise.all(reading), { signal });
    }),
  ]);
  const loaded = 'view' in running ? running.view.loaded : new Map();
  const listed: ListedPaths = 'view' in running ? running.listed : new Map();
  const places: Record<string, PlaceObservation> = {};
  const unreadable: Record<string, KacmeError> = {};
  for (const [i, { path, crtList: list }] of deployments.entries()) {
    const found = files[i] ?? [];
    const inList = list && lists.get(list.file);
    const failure = [found, inList].find((one) => one instanceof KacmeError);
    if (failure !== undefined) {
      unreadable[path] = failure;
      continue;
    }
    const [file = { state: 'absent' }, ...copies] = found instanceof KacmeError ? [] : found;
    const inFile = !(inList instanceof KacmeError) && inList?.has(path) === true;
    const crtList = list === undefined ? {} : { crtList: { inFile, inMemory: listed.get(path) } };
    places[path] = { file, copies, loaded: loaded.get(path), ...crtList };
  }
  const [failure] = Object.values(unreadable);
  if (failure !== undefined && Object.keys(places).length === 0) throw failure;
  return {
    haproxy:
      'view' in running
        ? {
            state: 'running',
            version: running.view.version,
            bufferBytes: running.view.bufferBytes,
            pendingTransaction: running.view.pending,
            worker: running.view.worker,
            workers: running.workers,
          }
        : { state: 'stopped', reason: running.stopped },
    places,
    ...(failure === undefined ? {} : { unreadable }),
  };
}

type Running =
  | {
      readonly view: RuntimeView;
      readonly listed: ListedPaths;
      readonly workers: WorkersObservation | undefined;
    }
  | { readonly stopped: string };

async function observeHaproxy(
  host: HostView,
  deployments: readonly DeploymentSpec[],
  { signal }: { signal: AbortSignal },
): Promise<Running> {
  const { socket, masterSocket } = host.pool.haproxy;
  const path = socket ?? masterSocket;
  if (path === undefined) return { stopped: 'neither haproxy.socket nor haproxy.masterSocket is configured' };
  const kind = socket === undefined ? 'master' : 'stats';
  const paths = deployments.map((deployment) => deployment.path);
  const [seen, workers] = await Promise.all([
    unlessRefused(host, path, async (options) => {
      const runtime = new RuntimeApi({ ...options, socket: kind });
      const view = await runtime.look(paths, { signal });
      return { view, listed: await lookAtCrtLists(runtime, deployments, { signal }) };
    }),
    masterSocket === undefined
      ? undefined
      : unlessRefused(host, masterSocket, (options) => new MasterCli(options).workers({ signal })),
  ]);
  if (seen !== undefined) return { ...seen, workers };
  const alike = host.pool.ssh === undefined ? '' : ', or sshd refuses to forward to it: both look the same';
  return { stopped: `nothing answers at ${path}: HAProxy is stopped${alike}` };
}

/**
 * Undefined when the socket takes no connection: only that means that HAProxy is stopped. One that takes it and then
 * says nothing or refuses is a failure.
 */
async function unlessRefused<T>(
  { label, session, clock }: HostView,
  path: string,
  ask: (options: Omit<RuntimeApiOptions, 'socket'>) => Promise<T>,
): Promise<T | undefined> {
  let refused: unknown;
  const connect: Connect = async ({ signal }) => {
    try {
      return await session.connectSocket(path, { signal });
    } catch (error) {
      if (error instanceof KacmeError && error.code === 'ERR_HAPROXY_SOCKET') refused = error;
      throw error;
    }
  };
  try {
    return await ask({ host: label, clock, connect });
  } catch (error) {
    if (error === refused) return undefined;
    throw error;
  }
}

/** The runtime API of a host that should be running. Throws `ERR_HAPROXY_SOCKET` when no socket is configured. */
export function runtimeOf({ pool, label, session, clock }: HostView): RuntimeApi {
  const { socket, masterSocket } = pool.haproxy;
  const path = socket ?? masterSocket;
  if (path === undefined) {
    throw new HostError('ERR_HAPROXY_SOCKET', {
      host: label,
      step: 'connect to HAProxy',
      reason: 'neither haproxy.socket nor haproxy.masterSocket is configured',
      retry: 'never',
      remedy: `set pools.${pool.name}.haproxy.socket`,
    });
  }
  return new RuntimeApi({
    host: label,
    socket: socket === undefined ? 'master' : 'stats',
    connect: ({ signal }) => session.connectSocket(path, { signal }),
    clock,
  });
}
