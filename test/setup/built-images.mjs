import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheDirectory } from './apt.mjs';
import { baseStore, buildFlags, podmanIn, removePodman } from './containers.mjs';
import { withMachineLock } from './lock.mjs';

const run = promisify(execFile);
const DAY_MS = 86_400_000;

/**
 * What an image is made of that has nothing of kacme's source in it.
 *
 * @typedef {object} Recipe
 * @property {string} tag
 * @property {string} file path of the Dockerfile
 * @property {string} context what COPY sees
 * @property {readonly string[]} inputs paths that make it another image when they change, the Dockerfile among them
 * @property {Readonly<Record<string, string>>} args
 * @property {string} [target] stage of the Dockerfile
 * @property {readonly string[]} [stores] of the images that it is built on, besides the base images
 */

/**
 * An image in a store of its own, which tests read from: built once on this machine for each state of its inputs, since
 * most of the time goes to packages that it installs.
 *
 * @param {Recipe} recipe
 * @returns {Promise<string>} the store
 * @throws {Error} with the output of the build when it fails
 */
export async function builtImage(recipe) {
  const { tag, inputs, args, target = '', stores = [] } = recipe;
  const hash = createHash('sha256').update(JSON.stringify([tag, args, target, baseStore(), stores]));
  for (const path of inputs.flatMap(filesBelow))
    hash.update(`${statSync(path).mode}`).update(readFileSync(path));
  const name = `built-${tag.replaceAll(/[^a-z0-9]+/g, '-')}`;
  const store = join(cacheDirectory(), `${name}-${hash.digest('hex').slice(0, 8)}`);
  await withMachineLock(
    store,
    async () => {
      if (!existsSync(store)) await build(recipe, store);
    },
    { onWait: () => {} },
  );
  const now = new Date();
  utimesSync(store, now, now);
  await removeUnused(name);
  return store;
}

/**
 * @param {Recipe} recipe
 * @param {string} store
 */
async function build({ tag, file, context, args, target, stores = [] }, store) {
  const draft = `${store}.${randomUUID().slice(0, 8)}`;
  mkdirSync(draft, { recursive: true });
  try {
    const { command, env } = podmanIn(draft, { stores });
    const flags = [...buildFlags(args), ...(target === undefined ? [] : ['--target', target])];
    await run(command, ['build', ...flags, '--tag', tag, '--file', file, context], {
      env,
      maxBuffer: 64 << 20,
    });
    renameSync(draft, store);
  } finally {
    if (existsSync(draft)) await removePodman(draft);
  }
}

/** @param {string} path */
function filesBelow(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .map((name) => join(path, name))
    .filter((file) => statSync(file).isFile())
    .sort();
}

/**
 * Other states of the same image, unless a test run of today may still read them.
 *
 * @param {string} name
 */
async function removeUnused(name) {
  const directory = cacheDirectory();
  const old = readdirSync(directory)
    .filter((entry) => entry.startsWith(name) && /^-[0-9a-f]{8}$/.test(entry.slice(name.length)))
    .map((entry) => join(directory, entry))
    .filter((path) => statSync(path).mtimeMs < Date.now() - DAY_MS);
  for (const path of old) await removePodman(path);
}
