import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from './eventually.ts';
import { freePort, loopbackAddress } from './net.ts';
import { giveTo } from './ownership.ts';
import { descendants, isAlive, type RunningProcess, signalAll, startProcess } from './process.ts';
import { type Account, labAccount, programs } from './programs.ts';
import { scratchDirectory } from './scratch.ts';

const run = promisify(execFile);

export type HostKeyType = 'ed25519' | 'ecdsa' | 'rsa';

/** A client's key pair: `identityFile` is the private key, 0600. */
export interface Identity {
  readonly identityFile: string;
  /** One line, as in authorized_keys. */
  readonly publicKey: string;
}

export interface SshdOptions {
  /**
   * `hardened` (the default): SFTP and the sockets of `forward`, nothing else. `shell`: a shell and no sftp
   * subsystem, as in Kolla's container; `programs().sftpServer` can be executed.
   */
  readonly account?: 'hardened' | 'shell';
  /** UNIX sockets the hardened account may reach. */
  readonly forward?: readonly string[];
  readonly address?: string;
  readonly port?: number;
  /** Who may log in; a new key pair otherwise. */
  readonly identity?: Identity;
  readonly hostKeyTypes?: readonly HostKeyType[];
  /** More lines of sshd_config(5), before all others. */
  readonly configLines?: readonly string[];
  /** An existing directory of the account; one of its own otherwise. */
  readonly directory?: string;
  /** Where the host sees that directory. */
  readonly seenAt?: string | undefined;
}

export interface TestSshd extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly identityFile: string;
  /** Pins its host keys as `[address]:port`. */
  readonly knownHostsFile: string;
  /** The same lines, for a file that pins several hosts; not changed by `rotateHostKeys`. */
  readonly knownHosts: string;
  /** What it answers with now: `type base64`, one per host key type. */
  hostPublicKeys(): Promise<readonly string[]>;
  readonly running: boolean;
  /** sshd and the processes of its sessions; empty when stopped. */
  pids(): readonly number[];
  /** Its log. */
  output(): string;
  start(): Promise<void>;
  /** Ends it and its sessions; `start` brings it back on the same address and port. */
  stop(): Promise<void>;
  /** Ends the open sessions only: their clients lose the connection. */
  killSessions(): Promise<void>;
  /** SIGSTOP to sshd and its sessions: connections stay open, nobody answers. */
  freeze(): void;
  thaw(): void;
  /** From now on nobody can log in, or again. */
  allowLogin(allowed: boolean): Promise<void>;
  /**
   * Restarts it with new host keys, as a reinstalled host would have; known_hosts stays. `announce` is told of them, as
   * `hostPublicKeys` would tell, before sshd uses them.
   */
  rotateHostKeys(announce?: (keys: readonly string[]) => Promise<void>): Promise<void>;
  /** Stops it and removes its directory. */
  close(): Promise<void>;
}

export async function createIdentity(path: string): Promise<Identity> {
  await makeKey(path, 'ed25519');
  return { identityFile: path, publicKey: (await readFile(`${path}.pub`, 'utf8')).trim() };
}

/** A real sshd under the lab's unprivileged account; its user is that account, named `haproxy`. */
export async function startSshd(options: SshdOptions = {}): Promise<TestSshd> {
  const account = labAccount();
  const scratch = options.directory === undefined ? await scratchDirectory(account) : undefined;
  const directory = join(options.directory ?? scratch?.path ?? '', 'ssh');
  await mkdir(directory, { mode: 0o700 });
  const address = options.address ?? loopbackAddress();
  const port = options.port ?? (await freePort(address));
  const identity = options.identity ?? (await createIdentity(join(directory, 'identity')));
  const hostKeys = (options.hostKeyTypes ?? ['ed25519']).map((type) => ({
    type,
    path: join(directory, `host_${type}`),
  }));
  for (const { path, type } of hostKeys) await makeKey(path, type);
  const hostPublicKeys = () => Promise.all(hostKeys.map(({ path }) => readPublicKey(path)));
  const knownHostsFile = join(directory, 'known_hosts');
  const knownHosts = (await hostPublicKeys()).map((key) => `[${address}]:${port} ${key}\n`).join('');
  await writeFile(knownHostsFile, knownHosts);
  const authorizedKeys = join(directory, 'authorized_keys');
  await writeFile(authorizedKeys, `${identity.publicKey}\n`);
  await writeAccountFiles(directory, account);
  const configPath = join(directory, 'sshd_config');
  const hostKeyPaths = hostKeys.map(({ path }) => path);
  const config = renderConfig({ address, port, authorizedKeys, hostKeyPaths, directory }, options);
  await writeFile(configPath, config);
  await giveTo(account, directory);
  if (options.identity === undefined) await giveTo({ uid: 0, gid: 0 }, identity.identityFile);

  let server: RunningProcess | undefined;
  const sessions = () => (server === undefined ? [] : descendants(server.pid));
  const pids = () => (server === undefined ? [] : [server.pid, ...sessions()]);
  const killSessions = async () => {
    const open = sessions();
    signalAll(open, 'SIGKILL');
    await eventually('the sessions of sshd are gone', () => !open.some(isAlive));
  };
  const start = async () => {
    if (server !== undefined) return;
    const { sshd, env } = programs();
    server = await startProcess({
      name: 'sshd',
      command: sshd,
      args: ['-D', '-e', '-f', configPath],
      env: { ...env, ...nssEnvironment(directory) },
      cwd: directory,
      account,
      view: options.seenAt === undefined ? undefined : { directory: dirname(directory), at: options.seenAt },
      ready: (output) => output.includes('Server listening on'),
    });
  };
  const stop = async () => {
    if (server === undefined) return;
    // Frozen first: no new session can begin between looking and killing.
    server.signal('SIGSTOP');
    await killSessions();
    await server.stop();
    server = undefined;
  };
  const close = async () => {
    await stop();
    if (scratch === undefined) await rm(directory, { recursive: true, force: true });
    else await scratch.remove();
  };
  const sshd: TestSshd = {
    address,
    port,
    user: account.name,
    identityFile: identity.identityFile,
    knownHostsFile,
    knownHosts,
    hostPublicKeys,
    get running() {
      return server !== undefined;
    },
    pids,
    output: () => server?.output() ?? '',
    start,
    stop,
    killSessions,
    freeze: () => signalAll(pids(), 'SIGSTOP'),
    thaw: () => signalAll(pids(), 'SIGCONT'),
    allowLogin: (allowed) => writeFile(authorizedKeys, allowed ? `${identity.publicKey}\n` : ''),
    rotateHostKeys: async (announce) => {
      await stop();
      for (const { path, type } of hostKeys) {
        await Promise.all([rm(path), rm(`${path}.pub`)]);
        await makeKey(path, type);
      }
      await giveTo(account, directory);
      await announce?.(await hostPublicKeys());
      await start();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return sshd;
}

async function makeKey(path: string, type: HostKeyType): Promise<void> {
  const { sshKeygen, env } = programs();
  const bits = type === 'rsa' ? ['-b', '2048'] : [];
  await run(sshKeygen, ['-q', '-t', type, ...bits, '-N', '', '-C', 'lab', '-f', path], { env });
}

async function readPublicKey(path: string): Promise<string> {
  const [type, base64] = (await readFile(`${path}.pub`, 'utf8')).split(' ');
  return `${type} ${base64?.trim()}`;
}

const passwdFile = (directory: string) => join(directory, 'passwd');
const groupFile = (directory: string) => join(directory, 'group');

async function writeAccountFiles(directory: string, { name, uid, gid }: Account): Promise<void> {
  await writeFile(passwdFile(directory), `${name}:x:${uid}:${gid}:lab:${dirname(directory)}:/bin/sh\n`);
  await writeFile(groupFile(directory), `${name}:x:${gid}:\n`);
}

const nssEnvironment = (directory: string) => ({
  LD_PRELOAD: programs().nssWrapper,
  NSS_WRAPPER_PASSWD: passwdFile(directory),
  NSS_WRAPPER_GROUP: groupFile(directory),
});

interface Place {
  readonly address: string;
  readonly port: number;
  readonly authorizedKeys: string;
  readonly hostKeyPaths: readonly string[];
  readonly directory: string;
}

function renderConfig(place: Place, options: SshdOptions): string {
  const forward = (options.forward ?? []).map((path) => `[${path}]:*`).join(' ');
  // sftp-server looks its own user up: it needs the same account files as sshd.
  const sessionEnvironment = Object.entries(nssEnvironment(place.directory)).map(
    ([name, value]) => `${name}=${value}`,
  );
  const lines = [
    ...(options.configLines ?? []),
    `ListenAddress ${place.address}`,
    `Port ${place.port}`,
    ...place.hostKeyPaths.map((path) => `HostKey ${path}`),
    `AuthorizedKeysFile ${place.authorizedKeys}`,
    'PidFile none',
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'LogLevel VERBOSE',
    ...(options.account === 'shell'
      ? [`SetEnv ${sessionEnvironment.join(' ')}`]
      : [
          'Subsystem sftp internal-sftp',
          'ForceCommand internal-sftp -u 0077',
          'PermitTTY no',
          'AllowTcpForwarding local',
          'AllowStreamLocalForwarding local',
          `PermitOpen ${forward || 'none'}`,
        ]),
  ];
  return `${lines.join('\n')}\n`;
}
