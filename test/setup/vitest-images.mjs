import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureContainers, removePodman, whyNoContainers } from './containers.mjs';
import { ensureCompose, ensureDocker, ensureKollaAnsible } from './newer-debian.mjs';

/**
 * Vitest's global setup of the tests of docker/: what builds and runs images, their bases, and one store for all that
 * this run builds, so that each image is built once.
 */
export default async function setup() {
  if ((await whyNoContainers()) !== undefined) return undefined; // The tests say so, as skipped ones.
  const say = (/** @type {string} */ line) => void process.stdout.write(`set-up: ${line}\n`);
  await ensureContainers({ say });
  await ensureCompose({ say });
  if (process.env['KOLLA_ANSIBLE_SRC']) {
    await ensureKollaAnsible({ say });
    if (process.env['KOLLA_CONTAINER_ENGINE'] === 'docker') await ensureDocker({ say });
  }
  const directory = await mkdtemp(join(tmpdir(), 'kacme-podman-'));
  process.env['KACME_PODMAN'] = directory;
  return () => removePodman(directory);
}
