import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ansiblePaths } from '../setup/ansible.mjs';
import { descendants, signalAll } from './process.ts';

interface Play {
  readonly args: readonly string[];
  readonly cwd: string;
  /** Besides its own. */
  readonly env: Readonly<Record<string, string>>;
}

interface Played {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What ansible-playbook 2.19 does, without its start: most of the time of a short playbook goes there. */
export interface ResidentAnsible {
  /** One after the other. */
  play(what: Play): Promise<Played>;
  /** Resolves when it is gone; a playbook that still runs is not waited for. */
  close(): Promise<void>;
}

/** @param env of all playbooks; Ansible reads its settings (ANSIBLE_*) here, once. */
export function startResidentAnsible(env: Readonly<Record<string, string>>, cwd: string): ResidentAnsible {
  const { python, env: ansible } = ansiblePaths('2.19');
  const child = spawn(python, [join(import.meta.dirname, 'resident-ansible.py')], {
    env: { ...process.env, ...ansible, ...env },
    cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let complaints = '';
  child.stderr.on('data', (text: Buffer) => {
    complaints += text.toString();
  });
  // It says by its end what a broken pipe would say.
  child.stdin.on('error', () => {});
  const gone = once(child, 'exit');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (what: Play): Promise<Played> => {
    child.stdin.write(`${JSON.stringify(what)}\n`);
    const { done, value } = await answers.next();
    if (done) throw new Error(`the resident Ansible ended: ${complaints}`);
    const { stderr, ...played }: Played = JSON.parse(value);
    // Of Mitogen's processes, which belong to no single playbook.
    const more = complaints;
    complaints = '';
    return { ...played, stderr: stderr + more };
  };
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return {
    play: (what) => {
      waiting += 1;
      const played = last
        .then(() => ask(what))
        .finally(() => {
          waiting -= 1;
        });
      last = played.catch(() => {});
      return played;
    },
    close: async () => {
      if (waiting > 0 && child.pid !== undefined)
        signalAll([child.pid, ...descendants(child.pid)], 'SIGKILL');
      child.stdin.end();
      await gone;
      // Who was killed may have left somebody who holds the other ends.
      child.stdout.destroy();
      child.stderr.destroy();
    },
  };
}
