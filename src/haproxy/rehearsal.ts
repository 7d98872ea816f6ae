import { dirname } from 'node:path/posix';
import { KacmeError } from '../domain/errors.ts';
import type { HostTrial } from '../domain/host-check.ts';
import type { DeploymentSpec } from '../domain/model.ts';
import { waitForAll } from '../domain/wait-for-all.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { draftBeside } from './leftovers.ts';
import { type HostView, runtimeOf } from './observe.ts';

/** Tries what a change needs of the host and leaves nothing behind. */
export async function rehearse(
  view: HostView,
  deployments: readonly DeploymentSpec[],
  options: EffectOptions,
): Promise<HostTrial> {
  const files = deployments.flatMap(({ file, copies }) => [file, ...copies]);
  const oneIn = new Map(files.map((file) => [dirname(file), file]));
  const [socketLevel, directories] = await Promise.all([
    levelOf(view, options),
    waitForAll(
      Array.from(oneIn, async ([path, file]) => ({ path, refusal: await tryDraft(view, file, options) })),
    ),
  ]);
  return { socketLevel, directories };
}

async function tryDraft(
  { session }: HostView,
  file: string,
  options: EffectOptions,
): Promise<KacmeError | undefined> {
  const draft = draftBeside(file);
  try {
    await session.createFile(draft, Buffer.alloc(0), options);
    await session.remove(draft, options);
    return undefined;
  } catch (error) {
    return expected(error, options);
  }
}

/** Undefined where no HAProxy answers, which looking at it tells already; a master CLI has no levels. */
async function levelOf(view: HostView, options: EffectOptions): Promise<HostTrial['socketLevel']> {
  if (view.pool.haproxy.socket === undefined) return undefined;
  try {
    return await runtimeOf(view).level(options);
  } catch (error) {
    expected(error, options);
    return undefined;
  }
}

function expected(error: unknown, { signal, mandate }: EffectOptions): KacmeError {
  signal.throwIfAborted();
  mandate.signal.throwIfAborted();
  if (error instanceof KacmeError && error.code !== 'ERR_HOST_UNREACHABLE') return error;
  throw error;
}
