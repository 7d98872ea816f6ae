import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { CloudSide, Controller, KollaLab } from './kolla-lab.ts';
import { runLego } from './lego.ts';

const run = promisify(execFile);

/** Kolla's, of whom lego's files are. */
const HAPROXY_UID = 42454;
const WEBROOT = 'http-01/.well-known/acme-challenge';
/** A lego that has obtained its certificates waits for months. */
const CONTAINERS = {
  letsencrypt_lego: () => ['sleep', 'infinity'],
  letsencrypt_webserver: (address: string) => [
    ...['python3', '-m', 'http.server', '8081', '--bind', address, '--directory', '/etc/letsencrypt/http-01'],
  ],
};

/**
 * The cloud as the role letsencrypt of Kolla Ansible leaves it, with the certificates of the real lego: its containers
 * and its volume on every controller, and the PEMs where HAProxy has them. HAProxy has to be deployed.
 */
export async function deployLego(lab: KollaLab): Promise<void> {
  for (const controller of lab.controllers) await startLego(controller);
  const [active, ...passive] = lab.controllers;
  const volume = active.volume('letsencrypt');
  await obtainWithLego(lab, active);
  for (const { volume: of } of passive) {
    await run('rm', ['-r', join(of('letsencrypt'), 'lego')]);
    await run('cp', ['-a', join(volume, 'lego'), of('letsencrypt')]);
  }
  for (const controller of lab.controllers) {
    await installLegoPems(lab, controller);
    await must(controller.engine('restart', '--time', '1', 'haproxy'));
  }
}

/** What lego is asked for, by the name of its directory in the volume. */
export type LegoSides = Readonly<Record<'external' | 'internal', Pick<CloudSide, 'name' | 'ca'>>>;

/** Where the files of a named volume lie on this machine. */
export type Volumes = Pick<Controller, 'volume'>;

const entriesOf = ({ external, internal }: LegoSides) => Object.entries({ external, internal });

/** Fills lego's volume. Its web server has to answer what the CAs ask. */
export async function obtainWithLego(sides: LegoSides, { volume }: Volumes): Promise<void> {
  const path = volume('letsencrypt');
  for (const [directory, { name, ca }] of entriesOf(sides))
    await runLego({
      pebble: ca,
      directory: join(path, 'lego', directory),
      names: [name],
      answer: { webroot: join(path, 'http-01') },
    });
  await run('chown', ['-R', `${HAPROXY_UID}:${HAPROXY_UID}`, join(path, 'lego')]);
}

async function startLego({ address, engine, volume }: Controller): Promise<void> {
  await must(engine('volume', 'create', 'letsencrypt'));
  const path = volume('letsencrypt');
  await chmod(path, 0o751);
  for (const directory of ['lego/internal', 'lego/external', WEBROOT])
    await mkdir(join(path, directory), { recursive: true });
  for (const [name, command] of Object.entries(CONTAINERS))
    await must(
      engine(
        ...['run', '--detach', '--name', name, '--volume', 'letsencrypt:/etc/letsencrypt'],
        // As the first process of a container these take no notice of SIGTERM; Kolla's have an init that sees to it.
        ...['--stop-signal', 'KILL'],
        ...['localhost/kacme-lab/base:latest', ...command(address)],
      ),
    );
}

/** Puts lego's certificates where HAProxy reads them when it starts. */
export async function installLegoPems(sides: LegoSides, { volume }: Volumes): Promise<void> {
  for (const [directory, { name }] of entriesOf(sides)) {
    const from = join(volume('letsencrypt'), 'lego', directory, 'certificates', `${name}.pem`);
    const pem = (await readFile(from, 'utf8')).replaceAll(/^\n/gm, '');
    const to = join(
      volume('letsencrypt_certificates'),
      directory === 'internal' ? 'haproxy-internal.pem' : 'haproxy.pem',
    );
    await writeFile(to, pem, { mode: 0o600 });
    await chmod(to, 0o600);
    await chown(to, HAPROXY_UID, HAPROXY_UID);
  }
}

/** Puts what the web server of this controller answers to a challenge with this token. */
export async function layChallenge({ volume }: Controller, token: string, answer: string): Promise<void> {
  await writeFile(join(volume('letsencrypt'), WEBROOT, token), answer);
}

/** The URL of the account that lego has for this certificate. */
export async function legoAccount(
  { volume }: Controller,
  directory: 'internal' | 'external',
): Promise<string> {
  const accounts = join(volume('letsencrypt'), 'lego', directory, 'accounts');
  const [server = ''] = await readdir(accounts);
  const file = join(accounts, server, 'ops@example.org/account.json');
  return JSON.parse(await readFile(file, 'utf8')).registration.uri;
}

/** A digest of every file below lego/ in the volume with its owner, mode and time. */
export async function digestOfLego({ volume }: Volumes): Promise<string> {
  const root = join(volume('letsencrypt'), 'lego');
  const names = (await readdir(root, { recursive: true })).sort();
  const lines = await Promise.all(
    names.map(async (name) => {
      const { mode, uid, gid, mtimeMs } = await stat(join(root, name));
      const content = await readFile(join(root, name)).catch(() => '');
      return [name, mode, uid, gid, mtimeMs, createHash('sha256').update(content).digest('hex')].join(' ');
    }),
  );
  return createHash('sha256').update(lines.join('\n')).digest('hex');
}

async function must(command: ReturnType<Controller['engine']>): Promise<void> {
  const { status, stderr } = await command;
  if (status !== 0) throw new Error(`the container engine ended with ${status}: ${stderr}`);
}
