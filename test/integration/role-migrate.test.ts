import { once } from 'node:events';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type CloudOptions, startCloud, type TestCloud } from '../support/kolla-cloud.ts';

const TIMEOUT = { timeout: 600_000 };
const LEGO = ['letsencrypt_lego', 'letsencrypt_webserver'];
const GROUPS = { 'letsencrypt-lego': ['ctl1', 'ctl2'], 'letsencrypt-webserver': ['ctl1', 'ctl2'] };

interface Migration {
  readonly cloud: TestCloud;
  /** The words of the playbook, in one line. */
  fails(playbook: string, action?: string, ...args: string[]): Promise<string>;
  works(playbook: string, action?: string, ...args: string[]): Promise<string>;
  /** What is done to the containers of a host from now on. */
  doings(host?: string): Promise<readonly string[]>;
}

/** A cloud whose lego has these certificates on the first controller, with Kolla's haproxy_ssh. */
async function cloudWithLego(lego: readonly string[], options: CloudOptions = {}): Promise<Migration> {
  const cloud = await startCloud({
    groups: GROUPS,
    ...options,
    globals: {
      kacme_integration: 'replace_lego',
      enable_letsencrypt: 'yes',
      // As in a cloud: what stands in for kacme is lego's web server at first.
      letsencrypt_webserver_port: '{{ kacme_challenge_port }}',
      kolla_container_engine: 'podman',
      kacme_ssh_enabled: false,
      haproxy_ssh_key: { private_key: 'THE-PRIVATE-KEY', public_key: 'public' },
      ...options.globals,
    },
  });
  onTestFinished(() => cloud[Symbol.asyncDispose]());
  const { kolla, controllers } = cloud;
  const volume = join(kolla.path, 'volume');
  for (const directory of ['external', 'internal'])
    await mkdir(join(volume, 'lego', directory, 'certificates'), { recursive: true });
  for (const directory of lego)
    await writeFile(join(volume, 'lego', directory, 'certificates/cloud.test.crt'), '');
  await kolla.mark('volume-ctl1', volume);
  for (const { name } of controllers) await kolla.seed(name, ['haproxy', 'haproxy_ssh', ...LEGO]);
  const played = async (playbook: string, action: string, args: readonly string[]) => {
    const { status, output } = await kolla.play(playbook, action, ...args);
    return { status, said: output.replaceAll('\\"', '"').replaceAll('\\n', ' ') };
  };
  return {
    cloud,
    fails: async (playbook, action = 'deploy', ...args) => {
      const { status, said } = await played(playbook, action, args);
      expect(status, said).not.toBe(0);
      return said;
    },
    works: async (playbook, action = 'deploy', ...args) => {
      const { status, said } = await played(playbook, action, args);
      expect(status, said).toBe(0);
      return said;
    },
    doings: async (host = 'ctl1') =>
      (await kolla.actions(host)).map(({ action, name }) => `${action} ${name}`),
  };
}

/** HAProxy was deployed with the verification frontend. */
async function startVerification({ kolla, controllers }: TestCloud): Promise<void> {
  const globals = JSON.parse(await readFile(join(kolla.path, 'etc/globals.yml'), 'utf8'));
  for (const { address } of controllers) {
    const server = createServer((socket) => socket.destroy()).listen(globals.kacme_verify_port, address);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
  }
}

test(
  'nothing is stopped before it is known that kacme can take over; then lego goes first, a failure says what to do, and it can be taken back',
  TIMEOUT,
  async () => {
    const { cloud, fails, works, doings } = await cloudWithLego(['internal'], { oneVip: true });
    const { kolla } = cloud;
    const stopped = LEGO.map((name) => `stop_and_remove_container ${name}`);
    await works('prepare.yml', 'config');
    // The port of challenges is taken by lego, and its groups are not empty.
    const checked = await works('kacme.yml', 'precheck');
    expect(checked).toContain('NOTE: lego runs on ctl1 and has internal. Go on with the playbook migrate');

    // What can be known is checked whatever tags are asked for.
    expect(await fails('migrate.yml', 'deploy', '--tags', 'kacme-switch')).toContain(
      'run kolla-ansible deploy --tags loadbalancer. Nothing was stopped',
    );
    await startVerification(cloud);
    expect(await fails('migrate.yml', 'deploy', '--tags', 'kacme-switch')).toContain(
      'lego runs on ctl1, and the tags leave kacme-stop-lego out',
    );
    await kolla.mark('fail-rehearse_kacme', '1');
    expect(await fails('migrate.yml', 'deploy', '--tags', 'kacme-adopt')).toContain(
      'kacme adopt ended with status 1',
    );
    expect(await kolla.containers('ctl1')).toEqual(['haproxy', 'haproxy_ssh', ...LEGO]);
    await kolla.unmark('fail-rehearse_kacme');

    await kolla.mark('fail-adopt_kacme', '1');
    expect(await fails('migrate.yml')).toMatch(
      /The migration failed on ctl1 .*lego is stopped, and HAProxy goes on serving .*run the playbook migrate again/,
    );
    expect(await doings()).toEqual(['start_container rehearse_kacme', ...stopped]);
    expect(await kolla.containers('ctl1')).toEqual(['haproxy', 'haproxy_ssh']);

    // A host that does not answer to kacme is no reason to leave the migration half done.
    await kolla.mark('fail-adopt_kacme', '3');
    await cloud.makeRoom();
    const said =
      (await works('migrate.yml', 'deploy', '--tags', 'kacme-stop-lego,kacme-adopt')) +
      (await works('migrate.yml', 'deploy', '--tags', 'kacme-switch,kacme-verify'));
    expect(said).toContain('everything is as it should be');
    expect(said).not.toContain('THE-PRIVATE-KEY');
    expect(await doings()).toEqual([
      'start_container rehearse_kacme',
      ...stopped,
      'start_container rehearse_kacme',
      'start_container bootstrap_kacme',
      'recreate_or_restart_container kacme',
    ]);
    const done = await kolla.actions('ctl1');
    expect(new Set(done.map(({ engine }) => engine))).toEqual(new Set(['podman']));
    expect(done[0]?.command).toBe('kacme adopt cloud --complete --from lego:/etc/kacme/lego --dry-run');
    expect(done[0]?.volumes).toContain('letsencrypt:/etc/letsencrypt:ro');
    expect(await kolla.containers('ctl1')).toEqual(['haproxy', 'haproxy_ssh', 'kacme']);
    expect(await kolla.read('ctl1', 'kacme/known_hosts')).toContain(':2985 ssh-ed25519 AAAAC3');
    await expect(kolla.read('ctl1', 'kacme/adopt.json')).rejects.toThrow('ENOENT');

    const before = await doings();
    expect(await works('migrate.yml')).toContain(
      'WARNING: empty the inventory group [letsencrypt:children] now',
    );
    expect(await doings()).toEqual(before);

    const prepared = join(kolla.path, 'etc/config/haproxy/services.d/kacme.cfg');
    await access(prepared);
    expect(await works('rollback.yml')).toContain('kolla-ansible deploy --tags loadbalancer,letsencrypt');
    expect(await kolla.containers('ctl1')).toEqual(['haproxy', 'haproxy_ssh']);
    await expect(access(prepared)).rejects.toThrow('ENOENT');
    await expect(access(dirname(prepared))).resolves.toBeUndefined();
  },
);

test('--check finds nothing in the way of a migration, and changes nothing', TIMEOUT, async () => {
  const { cloud, works, doings } = await cloudWithLego(['internal'], { oneVip: true });
  const { kolla } = cloud;
  await works('prepare.yml', 'config');
  await startVerification(cloud);
  await works('migrate.yml', 'deploy', '--check');
  expect(await doings()).toEqual([]);
  expect((await kolla.commands()).filter((line) => line.includes('chown'))).toEqual([]);
});

test("Kolla's haproxy_ssh is given the directory of the certificates, once", TIMEOUT, async () => {
  const { cloud, works } = await cloudWithLego([]);
  const configure = ['kacme.yml', 'deploy', '--skip-tags', 'kacme-containers,kacme-wait'] as const;
  await works(...configure);
  expect(await cloud.kolla.commands()).toContain(
    'podman exec -u root haproxy_ssh chown -c haproxy: /etc/haproxy/certificates',
  );
  expect(await works(...configure)).toMatch(/^ctl1 .* changed=0 /m);
});

test(
  'what lego does not have is named first; a controller that is down is a warning, one that is left out another, there and back',
  TIMEOUT,
  async () => {
    const { cloud, fails, works, doings } = await cloudWithLego(['external'], { controllers: 3 });
    const { kolla } = cloud;
    await works('prepare.yml', 'config');
    await startVerification(cloud);
    await cloud.makeRoom();
    await kolla.setDown(['ctl2']);
    const said = await fails('migrate.yml');
    for (const words of [
      "lego's volume on ctl1 has external only, so kacme would order internal anew",
      'kacme_managed_certs: [external]',
      'kacme_lego_directories: [external]',
    ])
      expect(said).toContain(words);
    expect(await doings()).toEqual([]);

    const narrowed = ['-e', JSON.stringify({ kacme_lego_directories: ['external'] })];
    const migrated = await works('migrate.yml', 'deploy', ...narrowed, '--limit', 'ctl1,ctl2');
    expect(migrated).toContain('WARNING: ctl2 was not reached, and lego is still there');
    expect(migrated).toContain('WARNING: ctl3 was left out by --limit: lego was not stopped there');
    expect(migrated).not.toContain('ctl3 was not reached');
    expect((await kolla.actions('ctl1'))[0]?.command).toContain('kacme adopt external --complete');
    expect(await kolla.containers('ctl1')).toEqual(['haproxy', 'haproxy_ssh', 'kacme']);

    await kolla.setDown(['ctl1']);
    const back = await works('rollback.yml', 'deploy', '--limit', 'ctl1,ctl3');
    expect(back).toContain('WARNING: ctl1 was not reached: what kacme has there starts with the host');
    expect(back).toContain('WARNING: ctl2 was left out by --limit: what kacme has there goes on');
  },
);

test(
  'a lego without a certificate goes without anything to take over, once that is said',
  TIMEOUT,
  async () => {
    const { cloud, fails, works, doings } = await cloudWithLego([]);
    await works('prepare.yml', 'config');
    await startVerification(cloud);
    await cloud.makeRoom();
    const said = await fails('kacme.yml', 'precheck');
    expect(said).toContain(
      "lego's volume on ctl1 has no certificate, so there is nothing to take over; to have kacme order external, internal, write kacme_lego_directories: []",
    );
    expect(said).not.toContain('kacme_managed_certs: []');

    await works('migrate.yml', 'deploy', '-e', JSON.stringify({ kacme_lego_directories: [] }));
    expect(await doings()).toEqual([
      ...LEGO.map((name) => `stop_and_remove_container ${name}`),
      'start_container bootstrap_kacme',
      'recreate_or_restart_container kacme',
    ]);
  },
);

test('prechecks note a CA other than that of lego, whose account is not taken over', TIMEOUT, async () => {
  const { works } = await cloudWithLego(['external', 'internal'], {
    globals: {
      letsencrypt_external_cert_server: 'https://acme-v02.api.letsencrypt.org/directory',
      letsencrypt_internal_cert_server: 'https://ca.cloud.test/directory',
    },
  });
  await works('prepare.yml', 'config');
  expect(await works('kacme.yml', 'precheck')).toContain(
    "name another CA than lego's for internal (lego: https://ca.cloud.test/directory, kacme: https://acme-v02.api.letsencrypt.org/directory):",
  );
});
