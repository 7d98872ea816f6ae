import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type CloudOptions, startCloud, type TestCloud } from '../support/kolla-cloud.ts';

const TIMEOUT = { timeout: 600_000 };

async function cloudOf(options: CloudOptions): Promise<TestCloud> {
  const cloud = await startCloud(options);
  onTestFinished(() => cloud[Symbol.asyncDispose]());
  return cloud;
}

test.each([
  {
    title: 'everything that is missing, at once',
    globals: {
      openstack_release: '2023.1',
      kacme_acme_contact: [],
      kacme_acme_terms_of_service_agreed: false,
      kolla_external_fqdn: '203.0.113.7',
      kacme_acme_eab_key_id: 'kid-1',
      kacme_wait_trusted: '5m',
      kacme_verify_port: '8083',
      kacme_prepare_skip: ['prometeus'],
      config_strategy: 'COPY_ONCE',
    },
    said: [
      'config_strategy: COPY_ONCE',
      'kacme_wait_trusted: 5m is no number of seconds; for example kacme_wait_trusted: 300',
      'kacme_verify_port: 8083: each has to be a port of its own',
      'kacme_prepare_skip: prometeus; expected some of globals, haproxy, start-script, horizon, fluentd,',
      'openstack_release: 2023.1 is not supported; expected one of 2025.1',
      'kacme_acme_contact: ["ops@example.org"]',
      'kacme_acme_terms_of_service_agreed: true',
      'external (203.0.113.7) is for an IP address',
      'kacme_acme_profile: shortlived',
      'kacme_acme_eab_key_id and kacme_acme_eab_hmac_key: one is set without the other',
      'haproxy_socket_level_admin: true',
      'services.d/kacme.cfg or haproxy_run.sh is missing',
      'haproxy_extra_volumes: ["kacme_marker:/var/lib/kolla/kacme-manages/external-internal"]',
      '[kacme]: it has 2 hosts',
    ],
    groups: { kacme: ['ctl1', 'ctl2'] },
  },
  {
    title: 'enable_letsencrypt as a boolean',
    globals: {
      kacme_integration: 'replace_lego',
      enable_letsencrypt: true,
      kacme_managed_certs: ['internal'],
      kacme_internal_acme_directory: 'https://ca.cloud.test/directory',
      kacme_internal_acme_contact: ['ops@cloud.test'],
      // Nobody asks the public CA.
      kacme_acme_contact: [],
      // Where Kolla's own default leads to, on each host.
      kacme_challenge_port: '8081',
    },
    said: [
      "compares it with the string 'yes'",
      'enable_letsencrypt: "yes", with the quotes',
      'acme_client_servers: it does not lead to kacme alone',
    ],
    unsaid: ['kacme_acme_contact'],
    groups: {},
  },
  {
    title: 'contradictions',
    globals: {
      enable_letsencrypt: 'yes',
      kacme_ssh_enabled: false,
      kolla_enable_tls_internal: false,
      kacme_managed_certs: ['internal', 'external'],
      kolla_external_fqdn: '203.0.113.7',
      kolla_internal_fqdn: 'fd00::10',
      kacme_internal_acme_directory: 'https://ca.cloud.test/directory',
      kacme_internal_acme_contact: [],
      kacme_internal_acme_ca_file: '/no/such/ca.pem',
      kacme_key_type: 'rsa2048',
      kacme_log_level: 'loud',
      kacme_acme_directory: '',
    },
    said: [
      '203.0.113.7 and fd00::10 are addresses, of two',
      'kacme_internal_acme_contact: ["ops@example.org"]',
      'kacme_internal_acme_ca_file: /no/such/ca.pem is no file on the machine that runs Ansible',
      'kacme_key_type: rsa2048 is none of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096',
      'kacme_log_level: loud is none of trace, debug, info, warn, error',
      "kacme_acme_directory: '' is no URL",
      'inventory group [loadbalancer]: fd00::11: kacme calls a host by its name there',
      'contradicts kacme_integration: standalone',
      'kacme_ssh_enabled: false falls back',
      'kacme_managed_certs: internal, external contradicts kolla_enable_tls_internal',
      'lego would write the same files',
      'config/haproxy/ctl2/haproxy_run.sh: Kolla takes it for ctl2 in place of',
      'config/haproxy-config/ctl2/horizon.cfg: Kolla takes it for ctl2 in place of',
      'config/cron/ctl1/cron-logrotate-global.conf: Kolla takes it for ctl1 in place of',
    ],
    unsaid: ['config/haproxy/ctl1/haproxy_run.sh', 'config/cron/ctl2/'],
    groups: { 'letsencrypt-lego': ['ctl1'], loadbalancer: ['ctl1', 'ctl2', 'fd00::11'] },
    files: {
      'haproxy/ctl1/haproxy_run.sh': 'haproxy -W -S /var/lib/kolla/haproxy/haproxy-master.sock -db',
      'haproxy/ctl2/haproxy_run.sh': 'haproxy -W -db',
      'haproxy-config/ctl2/horizon.cfg': 'frontend horizon_front',
      'cron/ctl1/cron-logrotate-global.conf': '"/var/log/kolla/nova/*.log" { }',
      'cron/ctl2/cron-logrotate-global.conf': '"/var/log/kolla/*/*.log" { }',
    },
  },
])('prechecks name $title', TIMEOUT, async ({ globals, said, unsaid = [], groups, files = {} }) => {
  const { kolla } = await cloudOf({ controllers: 2, globals, groups });
  for (const [name, text] of Object.entries(files)) {
    const path = join(kolla.path, 'etc/config', name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  const { status, output } = await kolla.play('kacme.yml', 'precheck');
  expect(status).not.toBe(0);
  for (const words of said) expect(output.replaceAll('\\"', '"')).toContain(words);
  for (const words of unsaid) expect(output).not.toContain(words);
});

test('each step of a first deployment can be run again after it failed', TIMEOUT, async () => {
  const cloud = await cloudOf({ globals: { kacme_wait_trusted: 5, enable_external_api_firewalld: 'yes' } });
  const { kolla, httpPort } = cloud;
  const at = (...parts: string[]) => join(kolla.path, ...parts);
  const fails = async (playbook: string, action: string, reason: string | RegExp) => {
    const { status, output } = await kolla.play(playbook, action);
    expect(status, output).not.toBe(0);
    expect(output.replaceAll('\\"', '"')).toMatch(reason);
  };
  const works = async (playbook: string, action: string) => {
    const { status, output } = await kolla.play(playbook, action);
    expect(status, output).toBe(0);
  };
  const wrong = JSON.stringify({
    kacme_managed_certs: 'external',
    kacme_wait_trusted: '5m',
    kacme_operations_port: '8444',
    kacme_verify_port: '8444',
  });
  for (const playbook of ['prepare.yml', 'kacme.yml']) {
    const { status, output } = await kolla.play(playbook, 'deploy', '-e', wrong);
    expect(status, output).not.toBe(0);
    for (const words of [
      'kacme_managed_certs: "external" is no list; for example kacme_managed_certs: ["internal", "external"]',
      'kacme_wait_trusted: 5m is no number of seconds',
      'kacme_verify_port: 8444: each has to be a port of its own',
    ])
      expect(output.replaceAll('\\"', '"')).toContain(words);
  }
  const volumes = at('etc/globals.d/mine.yml');
  await writeFile(volumes, 'haproxy_extra_volumes: []\n');
  await fails(
    'prepare.yml',
    'config',
    /is set in \S+mine\.yml, and .* write it as kacme_haproxy_extra_volumes/,
  );
  await writeFile(volumes, 'kacme_haproxy_extra_volumes: ["/opt/site:/opt/site:ro"]\n');
  const mine = at('etc/config/haproxy/haproxy_run.sh');
  await mkdir(dirname(mine), { recursive: true });
  await writeFile(mine, 'a script of the operator');
  await fails('prepare.yml', 'config', 'haproxy_run.sh is there already and was not written by kacme.kolla');
  expect(await readFile(mine, 'utf8')).toBe('a script of the operator');
  await rm(mine);
  await works('prepare.yml', 'config');

  await fails('kacme.yml', 'precheck', /kacme_challenge_port: \d+ is taken on ctl1; end what listens there/);
  await cloud.makeRoom();
  await works('kacme.yml', 'precheck');
  await cloud.standIn();

  const script = at('playbooks/roles/loadbalancer/templates/haproxy/haproxy_run.sh.j2');
  const stock = await readFile(script, 'utf8');
  await writeFile(script, 'exec /usr/sbin/haproxy -D');
  await fails('loadbalancer.yml', 'deploy', 'kacme.kolla does not know this release');
  await writeFile(script, stock);
  await works('loadbalancer.yml', 'deploy');

  await kolla.mark('untrusted');
  await fails('kacme.yml', 'deploy', /Wait until every certificate is one of the CA/);
  await kolla.unmark('untrusted');
  await works('kacme.yml', 'deploy');
  expect((await kolla.actions('ctl1')).map(({ name }) => name)).toEqual([
    'kacme_ssh',
    'bootstrap_kacme',
    'kacme',
  ]);
  expect((await kolla.commands()).filter((line) => line.startsWith('firewalld'))).toEqual([
    `firewalld ctl1 public ${httpPort}/tcp immediate offline permanent`,
  ]);

  const keys = () =>
    Promise.all(['kacme/known_hosts', 'kacme_ssh/authorized_keys'].map((path) => kolla.read('ctl1', path)));
  const before = await keys();
  expect(before).toMatchObject([
    expect.stringContaining(' ssh-ed25519 '),
    expect.stringContaining('ssh-ed25519 '),
  ]);
  // As when ssh-keygen is ended between its two files.
  for (const file of ['kacme/id_ed25519.pub', 'kacme_ssh/ssh_host_ed25519_key.pub'])
    await rm(at('hosts/ctl1', file));
  await works('kacme.yml', 'deploy');
  expect(await keys()).toEqual(before);
});

test(
  "each action of kolla-ansible does to kacme what it does to other services, and each step's tag does that step alone",
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({});
    const acts = async (action: string, ...args: string[]) => {
      const { status, output } = await kolla.play('kacme.yml', action, ...args);
      expect(status, output).toBe(0);
      return output;
    };
    const bootstrap = ['-e', 'kacme_action=bootstrap'];
    await acts('upgrade', ...bootstrap, '--tags', 'kacme-config');
    await kolla.read('ctl1', 'kacme/kacme.yaml');
    await expect(kolla.actions('ctl1')).rejects.toThrow('ENOENT');
    await acts('upgrade', ...bootstrap, '--tags', 'kacme-bootstrap');
    expect(await kolla.actions('ctl1')).toMatchObject([{ name: 'bootstrap_kacme' }]);
    await acts('deploy', '--tags', 'kacme-wait');
    expect((await kolla.commands()).at(-1)).toBe('docker exec kacme kacme status --json');
    expect(await kolla.actions('ctl1')).toHaveLength(1);
    const asked = await kolla.commands();
    await acts('deploy', '--tags', 'kacme-containers');
    expect(await kolla.containers('ctl1')).toEqual(['kacme_ssh', 'kacme']);
    expect(await kolla.commands()).toEqual(asked);
    await kolla.seed('ctl1', ['kacme', 'kacme_ssh']);
    await acts('pull', '--tags', 'kacme');
    expect((await kolla.actions('ctl1')).map(({ action }) => action)).toEqual(['pull_image', 'pull_image']);
    expect(await acts('check')).toContain('everything is as it should be');
    await acts('config_validate');
    expect((await kolla.commands()).at(-1)).toBe(
      'docker exec -u root kacme kacme config check --config /var/lib/kolla/config_files/kacme.yaml',
    );
    await acts('stop');
    expect(await kolla.containers('ctl1')).toEqual([]);
  },
);

test(
  'a configuration that kacme refuses leaves the one that runs untouched, and the sidecars; the next deployment tries again',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({ controllers: 2 });
    await kolla.seed('ctl1', ['kacme', 'kacme_ssh']);
    await kolla.seed('ctl2', ['kacme_ssh']);
    await kolla.mark(
      'fail-check_kacme',
      '2\nINFO:__main__:Loading config file\nkacme.yaml:3:5: reconcile.evry: unknown key',
    );
    const refused = await kolla.play('kacme.yml', 'deploy');
    expect(refused.status, refused.output).not.toBe(0);
    expect(refused.output).toMatch(/goes on with what it was started with[\s\S]*reconcile.evry: unknown key/);
    expect(refused.output).not.toContain('Loading config file');
    for (const name of ['ctl1', 'ctl2']) expect(await kolla.actions(name)).toEqual([]);

    await kolla.unmark('fail-check_kacme');
    const { status, output } = await kolla.play('kacme.yml', 'deploy');
    expect(status, output).toBe(0);
    const done = await kolla.actions('ctl1');
    expect(done.map(({ name }) => name)).toEqual(['check_kacme', 'kacme_ssh', 'kacme']);
    expect(done[0]?.command).toBe("bash -c 'sudo -E kolla_set_configs && kacme config check'");
    // The one that runs is at work in its store.
    expect(done[0]?.volumes?.filter((volume) => volume.startsWith('kacme:'))).toEqual([]);
  },
);

test(
  'check mode changes nothing; a failed bootstrap fails the deployment, a partial one is a warning, a dead controller another; one host can be deployed alone',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({ controllers: 2 });
    const checked = await kolla.play('kacme.yml', 'deploy', '--check');
    expect(checked.status, checked.output).toBe(0);
    await expect(kolla.read('ctl1', 'kacme/kacme.yaml')).rejects.toThrow('ENOENT');

    await kolla.mark('fail-bootstrap_kacme', '1');
    expect((await kolla.play('kacme.yml', 'deploy')).status).not.toBe(0);
    expect((await kolla.actions('ctl1')).map(({ name }) => name)).toEqual(['kacme_ssh']);
    const hostKey = await kolla.read('ctl2', 'kacme_ssh/ssh_host_ed25519_key');

    await kolla.mark('fail-bootstrap_kacme', '3');
    const again = await kolla.play('kacme.yml', 'deploy');
    expect(again.status, again.output).toBe(0);
    expect(again.output).toContain('WARNING: kacme bootstrap is partly done');
    expect(await kolla.containers('ctl1')).toEqual(['kacme_ssh', 'kacme']);
    expect(await kolla.read('ctl2', 'kacme_ssh/ssh_host_ed25519_key')).toBe(hostKey);

    const [pinned, config] = [
      await kolla.read('ctl1', 'kacme/known_hosts'),
      await kolla.read('ctl1', 'kacme/kacme.yaml'),
    ];
    const allowed = await kolla.read('ctl2', 'kacme_ssh/authorized_keys');
    const limited = await kolla.play('kacme.yml', 'reconfigure', '--limit', 'ctl2');
    expect(limited.status, limited.output).toBe(0);
    expect(limited.output).toMatch(/^ctl2 .*changed=0/m);
    expect(await kolla.read('ctl2', 'kacme_ssh/authorized_keys')).toBe(allowed);

    await kolla.setDown(['ctl2']);
    const { status, output } = await kolla.play('kacme.yml', 'deploy');
    expect(status, output).toBe(0);
    expect(output).toContain('WARNING: ctl2 was not reached');
    expect(await kolla.read('ctl1', 'kacme/known_hosts')).toBe(pinned);
    expect(await kolla.read('ctl1', 'kacme/kacme.yaml')).toBe(config);
  },
);

test('a kacme that cannot be stopped keeps its sidecars on every host', TIMEOUT, async () => {
  const { kolla } = await cloudOf({ controllers: 2 });
  await kolla.seed('ctl1', ['kacme', 'kacme_ssh']);
  await kolla.seed('ctl2', ['kacme_ssh']);
  await kolla.mark('fail-kacme');
  for (const [playbook, action] of [
    ['kacme.yml', 'stop'],
    ['rollback.yml', 'deploy'],
  ] as const) {
    const { status, output } = await kolla.play(playbook, action);
    expect(status, output).not.toBe(0);
    expect(output).toContain('Failed to stop kacme');
    expect(await kolla.containers('ctl1')).toEqual(['kacme', 'kacme_ssh']);
    expect(await kolla.containers('ctl2')).toEqual(['kacme_ssh']);
  }
});

test('a new or reinstalled controller is not deployed without the host of kacme', TIMEOUT, async () => {
  const { kolla, controllers } = await cloudOf({ controllers: 3 });
  const limited = await kolla.play('kacme.yml', 'config', '--limit', 'ctl2');
  expect(limited.status).not.toBe(0);
  expect(limited.output).toMatch(/does not know ctl2 yet.*--limit ctl2,ctl1/);
  expect(limited.output).not.toContain('was not reached');

  const known = join(kolla.path, 'hosts/ctl1/kacme/known_hosts');
  await mkdir(dirname(known), { recursive: true });
  await writeFile(known, `[${controllers[1]?.address}]:22 ssh-ed25519 AAAAofBefore ctl2\n`);
  const again = await kolla.play('kacme.yml', 'config', '--limit', 'ctl2');
  expect(again.status).not.toBe(0);
  expect(again.output).toMatch(/pinned another host key or address of ctl2.*--limit ctl2,ctl1/);
});

test(
  'no second kacme is started while one runs on a host that is not in its group; moved as the page says, it gets its challenges',
  TIMEOUT,
  async () => {
    const { kolla, controllers } = await cloudOf({ controllers: 2, groups: { kacme: ['ctl2'] } });
    const works = async (playbook: string | readonly string[], action: string) => {
      const { status, output } = await kolla.play(playbook, action);
      expect(status, output).toBe(0);
    };
    await kolla.seed('ctl1', ['kacme', 'kacme_ssh', 'haproxy']);
    for (const action of ['precheck', 'deploy']) {
      const { status, output } = await kolla.play('kacme.yml', action);
      expect(status, output).not.toBe(0);
      expect(output).toMatch(/kacme also runs on ctl1, which is not in .*rm -f kacme.*to ctl2/);
    }
    await expect(kolla.actions('ctl2')).rejects.toThrow('ENOENT');

    await kolla.seed('ctl1', ['kacme_ssh', 'haproxy']);
    await works(['prepare.yml', 'kacme.yml'], 'deploy');
    expect(await kolla.containers('ctl2')).toEqual(['kacme_ssh', 'kacme']);
    for (const { name } of controllers) {
      expect(await kolla.read('ctl2', 'kacme/known_hosts')).toContain(` ${name}\n`);
      expect(await kolla.read(name, 'kacme_ssh/authorized_keys')).toBe(
        `from="${controllers[1]?.address}",restrict,port-forwarding ${await kolla.read('ctl2', 'kacme/id_ed25519.pub')}`,
      );
      await kolla.mark(`haproxy-changed-${name}`);
    }
    await works(['loadbalancer.yml', 'reload.yml'], 'deploy');
    for (const { name } of controllers) {
      expect(await kolla.read(name, 'haproxy/services.d/kacme.cfg')).toContain(
        `server kacme ${controllers[1]?.address}:`,
      );
      expect(await kolla.commands()).toContain(`docker exec kacme kacme reload --host ${name}`);
    }
  },
);

test(
  'a changed configuration of HAProxy is reloaded host by host, up to the first that fails, past those that are down; a changed start script is left to a restart',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({ controllers: 2 });
    const reloads = async () =>
      (await kolla.commands())
        .filter((line) => line.includes('kacme reload'))
        .map((line) => line.split(' ').at(-1));
    for (const name of ['ctl1', 'ctl2']) await kolla.mark(`haproxy-changed-${name}`);
    await kolla.mark('reload-fails');
    expect((await kolla.play('reload.yml', 'deploy')).status).not.toBe(0);
    expect(await reloads()).toEqual(['ctl1']);

    await kolla.unmark('reload-fails');
    await kolla.mark('haproxy-stopped-ctl1');
    const stopped = await kolla.play('reload.yml', 'deploy');
    expect(stopped.status).not.toBe(0);
    expect(stopped.output).toMatch(/There is no HAProxy to reload on ctl1.*--tags loadbalancer/);
    await kolla.unmark('haproxy-stopped-ctl1');
    expect(await reloads()).toEqual(['ctl1']);

    const once = await kolla.play('reload.yml', 'deploy', '-e', 'config_strategy=COPY_ONCE');
    expect(once.status).not.toBe(0);
    expect(once.output).toContain('config_strategy: COPY_ONCE');
    expect(await reloads()).toEqual(['ctl1']);

    const { status, output } = await kolla.play('reload.yml', 'deploy');
    expect(status, output).toBe(0);
    expect(await reloads()).toEqual(['ctl1', 'ctl1', 'ctl2']);
    expect((await kolla.commands()).slice(-4)).toEqual([
      'docker exec -u root haproxy kolla_set_configs',
      'docker exec -u root haproxy haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/services.d/',
      'docker exec kacme kacme reload --host ctl2',
      'docker exec -u root haproxy rm -f /run/kacme-reload-is-due',
    ]);

    await kolla.mark('haproxy-changed-ctl1');
    await kolla.setDown(['ctl2']);
    await kolla.mark('haproxy-before-kacme');
    const old = await kolla.play('reload.yml', 'deploy');
    expect(old.status, old.output).toBe(0);
    expect(old.output).toContain('WARNING: HAProxy on ctl1 was started before kacme looked after internal');
    await kolla.unmark('haproxy-before-kacme');
    await kolla.mark('script-changed');
    const third = await kolla.play('reload.yml', 'deploy');
    expect(third.status, third.output).toBe(0);
    expect(third.output).toContain('WARNING: HAProxy on ctl1 was started by another start script');
    expect(third.output).toContain('WARNING: ctl2 was not reached');
    expect(await reloads()).toHaveLength(3);
  },
);
