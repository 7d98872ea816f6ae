import { ensureLab } from './lab.mjs';

/** Vitest's global setup of the projects that start servers. */
export default async function setup() {
  await ensureLab({ say: (line) => void process.stdout.write(`set-up: ${line}\n`) });
}
