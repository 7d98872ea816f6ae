import { ensureContainers, whyNoContainers } from './containers.mjs';

/** Vitest's global setup of the tests of docker/: what builds and runs images, and their bases. */
export default async function setup() {
  if ((await whyNoContainers()) !== undefined) return; // The tests say so, as skipped ones.
  await ensureContainers({ say: (line) => void process.stdout.write(`set-up: ${line}\n`) });
}
