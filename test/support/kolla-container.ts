import { execFile } from 'node:child_process';
import { chmod, chown, cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { ContainerAction } from './ansible.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { programs } from './programs.ts';
import { scratchDirectory } from './scratch.ts';

const run = promisify(execFile);
const repository = dirname(dirname(import.meta.dirname));

/** Who runs in an image. */
export type ImageUser = 'root' | 'haproxy' | 'kacme';

/** What kolla_container was told of a container that matters here. */
export type Container = Pick<ContainerAction, 'name' | 'environment' | 'volumes'>;

/** The containers of one host, without an engine: root file systems of their own that share named volumes. */
export interface ContainerHost extends AsyncDisposable {
  /** Where a named volume lies on this machine. */
  volume(name: string): string;
  /** As kolla_start does: copies what config.json lists, then runs its command as the image's user. */
  start(container: Container, user: ImageUser, ready: (output: string) => boolean): Promise<RunningProcess>;
  /** Runs another command in a container of this kind to its end and resolves with its stdout; rejects unless it ends with 0. */
  run(container: Container, user: ImageUser, ...command: string[]): Promise<string>;
}

/** Users that Kolla's images have, each in the group kolla besides its own. */
const IDS = { root: 0, haproxy: 64_001, kacme: 64_002, kolla: 64_003 } as const;

/** Whether this machine lets us have such root file systems: that needs root, and CAP_SYS_ADMIN. */
export async function canHaveContainers(): Promise<boolean> {
  const attempt = ['--mount', 'mount', '-t', 'overlay', 'none', '-o', 'lowerdir=/usr/bin:/usr/sbin', '/mnt'];
  return run('unshare', attempt).then(
    () => true,
    () => false,
  );
}

export async function containerHost(): Promise<ContainerHost> {
  const scratch = await scratchDirectory();
  const at = (...parts: readonly string[]) => join(scratch.path, ...parts);
  await Promise.all(['root', 'volumes', 'sbin', 'etc', 'kacme'].map((name) => mkdir(at(name))));
  await writeFile(at('etc/passwd'), passwd());
  await writeFile(at('etc/group'), groups());
  await installPrograms(at('sbin'), at('kacme'));
  const volume = (name: string) => at('volumes', name);
  // The first container that mounts a volume fills it with what its image has there.
  await mkdir(volume('haproxy_socket'));
  await chown(volume('haproxy_socket'), IDS.haproxy, IDS.haproxy);

  const launch = async ({ volumes }: Container, user: ImageUser, command: string) => {
    const mounts = [at('kacme'), '/opt/kacme', process.execPath, '/opt/kacme/node'];
    for (const [source = '', target = ''] of (volumes ?? []).map((text) => text.split(':'))) {
      const named = !source.startsWith('/');
      if (named) await mkdir(volume(source), { recursive: true });
      mounts.push(named ? volume(source) : source, target);
    }
    const setConfigs = join(repository, 'test/images/kolla-base/kolla_set_configs');
    return [
      '--mount',
      'bash',
      '-c',
      CONTAINER,
      'container',
      scratch.path,
      setConfigs,
      user,
      command,
      ...mounts,
    ];
  };
  const environmentOf = ({ environment }: Container) => ({
    ...programs().env,
    ...Object.fromEntries(Object.entries(environment ?? {}).map(([name, value]) => [name, String(value)])),
  });
  return {
    volume,
    start: async (container, user, ready) =>
      startProcess({
        name: container.name ?? 'container',
        command: 'unshare',
        args: await launch(container, user, ''),
        env: environmentOf(container),
        ready,
      }),
    run: async (container, user, ...command) => {
      const args = await launch(container, user, command.join(' '));
      const { stdout } = await run('unshare', args, { env: environmentOf(container) });
      return stdout;
    },
    [Symbol.asyncDispose]: scratch.remove,
  };
}

const passwd = () =>
  (['root', 'haproxy', 'kacme'] as const)
    .map((name) => `${name}:x:${IDS[name]}:${IDS[name]}::/nonexistent:/usr/sbin/nologin\n`)
    .join('');

const groups = () =>
  [
    'root:x:0:',
    `haproxy:x:${IDS.haproxy}:`,
    `kacme:x:${IDS.kacme}:`,
    `kolla:x:${IDS.kolla}:haproxy,kacme\n`,
  ].join('\n');

/** The lab's programs, where images have them: in front of this machine's /usr/sbin. */
async function installPrograms(sbin: string, kacme: string): Promise<void> {
  const { haproxy, sshd } = programs();
  await symlink(haproxy, join(sbin, 'haproxy'));
  await symlink(sshd, join(sbin, 'sshd'));
  await cp(dirname(process.env['KACME_COMMAND'] ?? ''), kacme, { recursive: true });
  await chmod(kacme, 0o755);
  await writeFile(join(sbin, 'kacme'), '#!/bin/sh\nexec /opt/kacme/node /opt/kacme/kacme.js "$@"\n', {
    mode: 0o755,
  });
}

/**
 * Becomes the container: a root file system in memory with this machine's programs, an /etc and a /var of its own, and the
 * volumes. Each step replaces the one before it, so that the process id stays.
 */
const CONTAINER = `
set -e
scratch=$1 set_configs=$2 user=$3 command=$4 root=$1/root
shift 4
mount -t tmpfs -o mode=0755 none "$root"
for entry in /*; do
  case $entry in /etc | /opt | /run | /var) continue ;; esac
  if [ -L "$entry" ]; then
    cp -a "$entry" "$root/"
  elif [ -d "$entry" ]; then
    mkdir "$root$entry"
    mount --rbind "$entry" "$root$entry"
  fi
done
mount -t overlay none -o "lowerdir=$scratch/sbin:/usr/sbin" "$root/usr/sbin"
mkdir -p "$root/etc" "$root/run" "$root/var/cache" "$root/var/lib/haproxy" "$root/var/log/kolla"
mount --bind /var/cache "$root/var/cache"
cp -a /etc/ssl /etc/alternatives /etc/ld.so.cache /etc/hosts "$root/etc/"
cp "$scratch"/etc/* "$root/etc/"
cp "$set_configs" "$root/run/kolla_set_configs"
while [ "$#" -gt 0 ]; do
  if [ -d "$1" ]; then mkdir -p "$root$2"; else touch "$root$2"; fi
  mount --bind "$1" "$root$2"
  shift 2
done
exec chroot "$root" /bin/bash --norc -e -c '
cd /
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/usr/bin/python3 -I /run/kolla_set_configs
exec setpriv --reuid "$0" --regid "$0" --init-groups --pdeathsig KILL \${1:-$(cat /run_command)}
' "$user" "$command"
`;
