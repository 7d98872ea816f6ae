import type { DeploymentSpec } from '../domain/model.ts';
import type { CrtListObservation } from '../domain/observation.ts';
import type { HostSession } from '../ports/host-session.ts';
import { pathsInCrtList } from './answers.ts';
import { readHostFile } from './host-file.ts';
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

/** Whether the file of the deployment's list names its path; undefined for a deployment without a list. */
export async function isInCrtListFile(
  session: HostSession,
  host: string,
  { path, crtList }: DeploymentSpec,
  options: { signal: AbortSignal },
): Promise<boolean | undefined> {
  if (crtList === undefined) return undefined;
  const file = await readHostFile(session, host, crtList.file, options);
  return file !== undefined && pathsInCrtList(file.content.toString('utf8')).includes(path);
}
