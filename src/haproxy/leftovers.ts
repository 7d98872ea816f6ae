import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path/posix';
import type { DeploymentSpec } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';

/** A new name beside `path`; what is left behind under one is swept. */
export const draftBeside = (path: string): string =>
  join(dirname(path), `.${basename(path)}.kacme-${randomBytes(8).toString('hex')}.tmp`);

/** Where a change keeps the present file until it is done. */
export const previousOf = (path: string): string => join(dirname(path), `.${basename(path)}.kacme-prev`);

/** The file that a name in its directory is a draft of; undefined when it is none. */
export const draftOf = (name: string): string | undefined =>
  /^\.(.+)\.kacme-[0-9a-f]{16}\.tmp$/.exec(name)?.[1];

/**
 * Removes what interrupted changes left beside files that nobody will go back from, with one look at each directory.
 * Resolves to the paths that were removed.
 */
export async function sweepLeftovers(
  session: HostSession,
  deployments: readonly DeploymentSpec[],
  options: EffectOptions,
): Promise<readonly string[]> {
  const files = deployments.flatMap(({ file, copies, crtList }) => [
    file,
    ...copies,
    ...(crtList === undefined ? [] : [crtList.file]),
  ]);
  const found = await waitForAll(
    [...new Set(files.map((file) => dirname(file)))].map(async (directory) => {
      const own = new Set(files.filter((file) => dirname(file) === directory).map((file) => basename(file)));
      const previous = new Set([...own].map((name) => basename(previousOf(name))));
      const names = await session.readDirectory(directory, options);
      return names
        .filter((name) => previous.has(name) || own.has(draftOf(name) ?? ''))
        .map((name) => join(directory, name));
    }),
  );
  const paths = found.flat().sort();
  await waitForAll(paths.map((path) => session.remove(path, options)));
  return paths;
}
