import { execFile } from 'node:child_process';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Outcome, TestKolla } from './ansible.ts';
import { giveTo } from './ownership.ts';
import { selfSigned } from './pem.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { labAccount, programs } from './programs.ts';
import { scratchDirectory } from './scratch.ts';

/** The HAProxy that Kolla would run on a host with what was rendered for it. */
export interface RenderedHaproxy extends AsyncDisposable {
  /** `haproxy -c`, which a warning fails, too. */
  check(): Promise<Outcome>;
  start(): Promise<RunningProcess>;
}

/** Takes what was rendered for a host to a directory of the lab's account; only paths and accounts differ. */
export async function renderedHaproxy(kolla: TestKolla, host: string): Promise<RenderedHaproxy> {
  const account = labAccount();
  const scratch = await scratchDirectory(account);
  const at = (...parts: readonly string[]) => join(scratch.path, ...parts);
  const moved = (text: string) =>
    text
      .replaceAll('/etc/haproxy/certificates', at('certificates'))
      .replaceAll('/var/lib/kolla/haproxy', scratch.path)
      .replaceAll(' group kolla', '')
      .replaceAll('group,kolla,', '')
      .replaceAll(/^ {4}(chroot|user|group) .*\n/gm, '');
  await mkdir(at('services.d'));
  await mkdir(at('certificates'));
  const services = (await readdir(join(kolla.path, 'hosts', host, 'haproxy/services.d'))).map((name) =>
    join('services.d', name),
  );
  for (const name of ['haproxy.cfg', 'haproxy_run.sh', ...services])
    await writeFile(at(name), moved(await kolla.read(host, join('haproxy', name))));
  for (const name of ['haproxy.pem', 'haproxy-internal.pem'])
    await writeFile(at('certificates', name), selfSigned(`${name}.test`).bundlePem, { mode: 0o600 });
  await giveTo(account, scratch.path);
  const { haproxy, env } = programs();
  const files = ['-f', at('haproxy.cfg'), '-f', at('services.d')];
  return {
    check: () =>
      new Promise((resolve) => {
        execFile(haproxy, ['-c', '-dW', ...files], { env }, (error, stdout, stderr) =>
          resolve({ status: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr }),
        );
      }),
    start: async () => {
      // The start script itself says how: what follows the name of the program.
      const script = moved(await kolla.read(host, 'haproxy/haproxy_run.sh'));
      const [, words = ''] = /^exec \/usr\/sbin\/haproxy (.*)$/m.exec(script) ?? [];
      const args = words
        .replace('-p /run/haproxy.pid', '')
        .replace('/etc/haproxy/haproxy.cfg', at('haproxy.cfg'))
        .replace('/etc/haproxy/services.d/', at('services.d'))
        .split(' ')
        .filter(Boolean);
      return startProcess({
        name: 'haproxy',
        command: haproxy,
        args,
        env,
        cwd: scratch.path,
        account,
        ready: (output) => output.includes('Loading success'),
      });
    },
    [Symbol.asyncDispose]: scratch.remove,
  };
}
