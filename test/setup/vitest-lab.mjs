import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundle } from '../../build.mjs';
import { ensureAnsible } from './ansible.mjs';
import { ensureLab } from './lab.mjs';
import { ensureNewerDebian } from './newer-debian.mjs';

/** Vitest's global setup of the projects that start servers: the lab's programs, and a build of kacme of their own. */
export default async function setup() {
  const say = (/** @type {string} */ line) => void process.stdout.write(`set-up: ${line}\n`);
  await ensureLab({ say });
  await ensureNewerDebian({ say });
  await ensureAnsible({ say });
  const directory = await mkdtemp(join(tmpdir(), 'kacme-build-'));
  const { command } = await bundle({ outdir: directory });
  process.env['KACME_COMMAND'] = command;
  return () => rm(directory, { recursive: true, force: true });
}
