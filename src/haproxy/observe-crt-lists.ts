import { KacmeError } from '../domain/errors.ts';
import type { DeploymentSpec } from '../domain/model.ts';
import type { CrtListObservation } from '../domain/observation.ts';
import type { HostSession } from '../ports/host-session.ts';
import { pathsInCrtList } from './answers.ts';
import { readHostFile, unlessUnreadable } from './host-file.ts';
import type { RuntimeApi } from './runtime-api.ts';

/** What the crt-lists of some deployments name in HAProxy's memory, by `DeploymentSpec.path`. */
export type ListedPaths = ReadonlyMap<string, CrtListObservation['inMemory']>;

/** One question for each list; what HAProxy can do is asked only when something is missing in one. */
export async function lookAtCrtLists(
  runtime: RuntimeApi,
  deployments: readonly DeploymentSpec[],
  options: { signal: AbortSignal },
): Promise<ListedPaths> {
  const wanted = deployments.flatMap(({ path, crtList }) => (crtList ? [{ path, list: crtList.path }] : []));
  const lists = new Map<string, readonly string[] | undefined>();
  for (const list of new Set(wanted.map(({ list }) => list)))
    lists.set(list, await runtime.crtList(list, options));
  const complete = wanted.every(({ path, list }) => lists.get(list)?.includes(path));
  const canAdd = !complete && (await runtime.canAdd(options));
  return new Map(
    wanted.map(({ path, list }) => {
      const listed = lists.get(list);
      if (listed?.includes(path)) return [path, 'listed'];
      return [path, listed !== undefined && canAdd ? 'addable' : 'fixed'];
    }),
  );
}

/** The paths that the files of the deployments' lists name, by the file; why it cannot be read where it cannot. */
export async function readCrtListFiles(
  session: HostSession,
  host: string,
  deployments: readonly DeploymentSpec[],
  options: { signal: AbortSignal },
): Promise<ReadonlyMap<string, ReadonlySet<string> | KacmeError>> {
  const files = new Set(deployments.flatMap(({ crtList }) => (crtList ? [crtList.file] : [])));
  const read = async (path: string): Promise<[string, ReadonlySet<string> | KacmeError]> => {
    const reading = readHostFile(session, host, path, options);
    const file = await unlessUnreadable(session, reading, options);
    if (file instanceof KacmeError) return [path, file];
    return [path, new Set(pathsInCrtList(file?.content.toString('utf8') ?? ''))];
  };
  return new Map(await Promise.all(Array.from(files, read)));
}
