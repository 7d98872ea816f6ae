import { expect, onTestFinished, test } from 'vitest';
import { type CloudOptions, startCloud, type TestCloud } from '../support/kolla-cloud.ts';

const TIMEOUT = { timeout: 300_000 };

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
    },
    said: [
      'openstack_release: 2023.1 is not supported; expected one of 2025.1',
      'kacme_acme_contact: ["ops@example.org"]',
      'kacme_acme_terms_of_service_agreed: true',
      'external (203.0.113.7) is for an IP address',
      'kacme_acme_profile: shortlived',
      'kacme_acme_eab_key_id and kacme_acme_eab_hmac_key: one is set without the other',
      'haproxy_socket_level_admin: true',
      'services.d/kacme.cfg or haproxy_run.sh is missing',
      '[kacme]: it has 2 hosts',
    ],
    groups: { kacme: ['ctl1', 'ctl2'] },
  },
  {
    title: 'enable_letsencrypt as a boolean',
    globals: {
      kacme_integration: 'replace_lego',
      enable_letsencrypt: true,
      kacme_managed_certs: ['external'],
    },
    said: [
      "compares it with the string 'yes'",
      'enable_letsencrypt: "yes", with the quotes',
      'acme_client_servers: it does not name kacme',
    ],
    groups: {},
  },
  {
    title: 'contradictions',
    globals: {
      enable_letsencrypt: 'yes',
      kacme_ssh_enabled: false,
      kolla_enable_tls_internal: false,
      kacme_managed_certs: ['internal', 'external'],
    },
    said: [
      'contradicts kacme_integration: standalone',
      'kacme_ssh_enabled: false falls back',
      'kacme_managed_certs: internal, external contradicts kolla_enable_tls_internal',
      'lego would write the same files',
    ],
    groups: { 'letsencrypt-lego': ['ctl1'] },
  },
])('prechecks name $title', TIMEOUT, async ({ globals, said, groups }) => {
  const { kolla } = await cloudOf({ controllers: 2, globals, groups });
  const { status, output } = await kolla.play('kacme.yml', 'precheck');
  expect(status).not.toBe(0);
  for (const words of said) expect(output.replaceAll('\\"', '"')).toContain(words);
});

test(
  'check mode changes nothing; a failed bootstrap fails the deployment, and the next one goes on; a dead controller is a warning',
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

    await kolla.unmark('fail-bootstrap_kacme');
    const again = await kolla.play('kacme.yml', 'deploy');
    expect(again.status, again.output).toBe(0);
    expect((await kolla.actions('ctl1')).map(({ name }) => name)).toEqual([
      'kacme_ssh',
      'bootstrap_kacme',
      'kacme',
    ]);
    expect(await kolla.read('ctl2', 'kacme_ssh/ssh_host_ed25519_key')).toBe(hostKey);

    const [pinned, config] = [
      await kolla.read('ctl1', 'kacme/known_hosts'),
      await kolla.read('ctl1', 'kacme/kacme.yaml'),
    ];
    await kolla.setDown(['ctl2']);
    const { status, output } = await kolla.play('kacme.yml', 'deploy');
    expect(status, output).toBe(0);
    expect(output).toContain('WARNING: ctl2 was not reached');
    expect(await kolla.read('ctl1', 'kacme/known_hosts')).toBe(pinned);
    expect(await kolla.read('ctl1', 'kacme/kacme.yaml')).toBe(config);
  },
);

test(
  "a migration on Podman stops lego first, adopts, and then serves; Kolla's haproxy_ssh serves as a fallback",
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({
      oneVip: true,
      globals: {
        kacme_integration: 'replace_lego',
        enable_letsencrypt: 'yes',
        kolla_container_engine: 'podman',
        kacme_ssh_enabled: false,
        haproxy_ssh_key: { private_key: 'THE-PRIVATE-KEY', public_key: 'public' },
        kacme_lego_directories: ['external'],
      },
    });
    await kolla.play('prepare.yml', 'config');
    const { status, output } = await kolla.play('migrate.yml', 'deploy');
    expect(status, output).toBe(0);
    expect(output).not.toContain('THE-PRIVATE-KEY');
    const done = await kolla.actions('ctl1');
    expect(done.map(({ name }) => name)).toEqual(['adopt_kacme_external', 'bootstrap_kacme', 'kacme']);
    expect(new Set(done.map(({ engine }) => engine))).toEqual(new Set(['podman']));
    expect(done[0]?.command).toContain('kacme adopt --from lego:/etc/letsencrypt/lego/external');
    expect(done[0]?.volumes).toContain('letsencrypt:/etc/letsencrypt:ro');
    expect(await kolla.read('ctl1', 'kacme/id_haproxy_ssh')).toBe('THE-PRIVATE-KEY\n');
    expect(await kolla.read('ctl1', 'kacme/known_hosts')).toContain(':2985 ssh-ed25519 AAAAC3');
    expect(await kolla.read('ctl1', 'kacme/kacme.yaml')).toContain(
      'sftp: { exec: /usr/lib/openssh/sftp-server }',
    );
  },
);

test(
  'a changed configuration of HAProxy is copied in, validated and reloaded by kacme, and a changed start script is left to a restart',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({});
    await kolla.mark('haproxy-changed');
    expect((await kolla.play('reload.yml', 'deploy')).status).toBe(0);
    expect((await kolla.commands()).slice(-3)).toEqual([
      'docker exec -u root haproxy kolla_set_configs',
      'docker exec -u root haproxy haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/services.d/',
      'docker exec kacme kacme reload --host ctl1',
    ]);
    await kolla.mark('haproxy-changed');
    await kolla.mark('script-changed');
    const { output } = await kolla.play('reload.yml', 'deploy');
    expect(output).toContain('WARNING: HAProxy on ctl1 was started by another start script');
    expect((await kolla.commands()).filter((line) => line.includes('kacme reload'))).toHaveLength(1);
  },
);
