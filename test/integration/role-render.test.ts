import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { createLogger } from '../../src/cli/logging.ts';
import { type Outcome, type TestKolla, warningsIn } from '../support/ansible.ts';
import { askForChallenge, type CloudOptions, startCloud, type TestCloud } from '../support/kolla-cloud.ts';
import { type RenderedHaproxy, renderedHaproxy } from '../support/kolla-haproxy.ts';

const run = promisify(execFile);
const TIMEOUT = { timeout: 300_000 };

async function cloudOf(options: CloudOptions): Promise<TestCloud> {
  const cloud = await startCloud(options);
  onTestFinished(() => cloud[Symbol.asyncDispose]());
  return cloud;
}

function expectDone(outcome: Outcome): string {
  expect(outcome.status, outcome.output).toBe(0);
  expect(warningsIn(outcome)).toEqual([]);
  return outcome.output;
}

/** As an operator: prepare, deploy the loadbalancer, deploy kacme. */
async function deploy(kolla: TestKolla, action = 'deploy'): Promise<void> {
  expectDone(await kolla.play('prepare.yml', 'config'));
  expectDone(await kolla.play(['loadbalancer.yml', 'kacme.yml'], action));
}

async function expectValidConfiguration(kolla: TestKolla, host: string): Promise<void> {
  const { stdout } = await run(process.execPath, [
    process.env['KACME_COMMAND'] ?? '',
    'config',
    'check',
    '--config',
    join(kolla.path, 'hosts', host, 'kacme/kacme.yaml'),
  ]);
  expect(stdout).toContain('valid');
}

async function expectSound(haproxy: RenderedHaproxy): Promise<void> {
  const { status, output } = await haproxy.check();
  expect(status, output).toBe(0);
}

async function expectChallengesAnswered(
  { kolla, httpPort, answer }: TestCloud,
  vips: readonly string[],
): Promise<void> {
  const haproxy = await renderedHaproxy(kolla, 'ctl1');
  onTestFinished(() => haproxy[Symbol.asyncDispose]());
  await expectSound(haproxy);
  const running = await haproxy.start();
  onTestFinished(() => running.stop());
  for (const vip of vips) expect(await askForChallenge(vip, httpPort)).toEqual({ status: 200, body: answer });
}

async function expectRendered(
  cloud: TestCloud,
  certificates: Readonly<Record<string, readonly string[]>>,
): Promise<void> {
  await expectValidConfiguration(cloud.kolla, 'ctl1');
  const config = parse(await cloud.kolla.read('ctl1', 'kacme/kacme.yaml'));
  const identifiers = Object.entries<{ identifiers: string[] }>(config.certificates).map(
    ([name, certificate]) => [name, certificate.identifiers],
  );
  expect(Object.fromEntries(identifiers)).toEqual(certificates);
  await expectChallengesAnswered(cloud, [cloud.internalVip, cloud.externalVip]);
}

/** Logs, metrics, alerts and rotation, as Kolla's roles find them. */
async function expectTold(kolla: TestKolla, metrics: string): Promise<void> {
  const fluentd = await kolla.read('ctl1', 'kacme.conf');
  const sources = fluentd.match(/^<source>$.*?^<\/source>$/gms) ?? [];
  expect(sources).toHaveLength(2);
  for (const source of sources)
    expect(source.split('\n').map((line) => line.trim())).toEqual(
      expect.arrayContaining(['ignore_repeated_permission_error true', 'enable_watch_timer false']),
    );
  expect(sources[0]).toContain('tag infra.kacme\n');
  // What Kolla's dashboards show, of a line as kacme writes it.
  const [, filter = ''] = /^<filter infra\.kacme>$(.*?)^<\/filter>$/ms.exec(fluentd) ?? [];
  const line = logLine('renewed');
  const shown = [...filter.matchAll(/^ +(\w+) \$\{record\["(\w+)"\]\}$/gm)];
  expect(Object.fromEntries(shown.map(([, to = '', from = '']) => [to, line[from]]))).toEqual({
    Payload: 'renewed',
    log_level: 'info',
  });
  expect(sources[1]).toContain('expression /^(?<Payload>.*)$/');

  expect(parse(await kolla.read('ctl1', 'kacme.yml'))).toEqual({
    scrape_configs: [{ job_name: 'kacme', static_configs: [{ targets: [metrics] }] }],
  });
  const alerts: AlertRules = parse(
    await readFile(join(kolla.path, 'etc/config/prometheus/kacme.rules'), 'utf8'),
  );
  const asked = alerts.groups.flatMap(({ rules }) => rules.flatMap(({ expr }) => expr.match(/kacme_\w+/g)));
  expect(new Set(asked).size).toBeGreaterThanOrEqual(6);
  const operations = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  for (const metric of asked) expect(operations).toContain(`\n| \`${metric}\` | `);

  expect(await kolla.read('ctl1', 'cron/logrotate.conf')).toMatch(
    /^"\/var\/log\/kolla\/kacme\/\*\.log"\n"\/var\/log\/kolla\/kacme_ssh\/\*\.log"\n\{\n\}$/m,
  );
}

interface AlertRules {
  readonly groups: readonly { readonly rules: readonly { readonly expr: string }[] }[];
}

function logLine(message: string): Record<string, unknown> {
  const written: string[] = [];
  const destination = new Writable({
    write(chunk, _, done) {
      written.push(String(chunk));
      done();
    },
  });
  createLogger({ level: 'info', destination, env: {} }).info(message);
  return JSON.parse(written.join(''));
}

/** Where Rocky has it as Node reads it: haproxy_backend_cacert is in the format TRUSTED CERTIFICATE there. */
const BUNDLE_OF_ROCKY = '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem';

const changes = (output: string) =>
  [...output.matchAll(/^ctl\d .*changed=(\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);

test(
  'three controllers, two addresses, standalone: challenges are answered ahead of the redirect, and a second run changes nothing',
  TIMEOUT,
  async () => {
    const cloud = await cloudOf({
      controllers: 3,
      telling: true,
      globals: {
        nova_external_fqdn: 'Nova.cloud.test',
        heat_external_fqdn: 'heat.test',
        // There is no enable_heat_cfn: enable_heat is its switch, and enable_nova that of the metadata.
        heat_cfn_external_fqdn: 'cfn.test',
        nova_metadata_internal_fqdn: 'metadata.cloud.test',
        heat_internal_fqdn: 'heat.internal.test',
      },
    });
    const { kolla, controllers } = cloud;
    await deploy(kolla);

    await expectValidConfiguration(kolla, 'ctl1');
    const config = parse(await kolla.read('ctl1', 'kacme/kacme.yaml'));
    expect(config.certificates).toEqual({
      external: { identifiers: ['cloud.test', 'nova.cloud.test'], issuers: ['public'], key: 'ecdsa-p256' },
      internal: {
        identifiers: ['internal.cloud.test', 'metadata.cloud.test'],
        issuers: ['public'],
        key: 'ecdsa-p256',
      },
    });
    expect(config.pools.loadbalancers.hosts).toEqual(
      controllers.map(({ name, address }) => ({ name, host: address })),
    );
    const pinned = await kolla.read('ctl1', 'kacme/known_hosts');
    for (const { name } of controllers) {
      const key = await kolla.read(name, 'kacme_ssh/ssh_host_ed25519_key.pub');
      expect(pinned).toContain(`${key.split(' ').slice(0, 2).join(' ')} ${name}`);
      const allowed = await kolla.read(name, 'kacme_ssh/authorized_keys');
      expect(allowed).toBe(
        `from="${controllers[0]?.address}",restrict,port-forwarding ${await kolla.read('ctl1', 'kacme/id_ed25519.pub')}`,
      );
      const haproxy = await renderedHaproxy(kolla, name);
      onTestFinished(() => haproxy[Symbol.asyncDispose]());
      await expectSound(haproxy);
    }
    await expectTold(kolla, `${controllers[0]?.address}:8083`);
    const done = (await kolla.actions('ctl1')).map(({ action, name }) => `${action} ${name}`);
    expect(done).toEqual([
      'recreate_or_restart_container kacme_ssh',
      'start_container bootstrap_kacme',
      'recreate_or_restart_container kacme',
    ]);
    await expectChallengesAnswered(cloud, [cloud.internalVip, cloud.externalVip]);

    const again = await kolla.play(['prepare.yml', 'loadbalancer.yml', 'kacme.yml'], 'reconfigure');
    expect(changes(expectDone(again))).toBe(0);
    expect(await kolla.actions('ctl1')).toHaveLength(done.length);
  },
);

test.each([
  {
    title: 'replacing lego on 2025.2, one address',
    options: {
      oneVip: true,
      globals: {
        openstack_release: '2025.2',
        kolla_enable_tls_internal: 'yes',
        kolla_enable_tls_external: 'yes',
        kacme_integration: 'replace_lego',
        enable_letsencrypt: 'yes',
      },
    },
    certificates: { cloud: ['cloud.test'] },
  },
  {
    title: 'standalone on 2025.2, without Horizon, two addresses',
    options: { globals: { openstack_release: '2025.2', enable_horizon: 'no' } },
    certificates: { external: ['cloud.test'], internal: ['internal.cloud.test'] },
  },
])('one controller, $title: challenges are answered', TIMEOUT, async ({ options, certificates }) => {
  const cloud = await cloudOf(options);
  await deploy(cloud.kolla, 'config');
  await expectRendered(cloud, certificates);
});

test(
  'one controller, standalone on 2025.1 with a single external frontend: what an Ansible before 2.19 deploys, 2.19 leaves as it is',
  TIMEOUT,
  async () => {
    const cloud = await cloudOf({
      ansibleCore: '2.14',
      globals: {
        openstack_release: '2025.1',
        kolla_base_distro: 'rocky',
        kolla_copy_ca_into_containers: 'yes',
        enable_letsencrypt: 'no',
        kolla_enable_tls_internal: 'yes',
        kolla_enable_tls_external: 'yes',
        haproxy_single_external_frontend: 'yes',
        kacme_internal_acme_directory: 'https://ca.cloud.test/acme/acme/directory',
        kacme_internal_acme_ca_file: '/etc/ssl/certs/ca-certificates.crt',
        kacme_acme_eab_key_id: 'kid-1',
        kacme_acme_eab_hmac_key: 'c2VjcmV0LXNlY3JldA',
      },
    });
    const { kolla } = cloud;
    await mkdir(join(kolla.path, 'etc/certificates/ca'), { recursive: true });
    await deploy(kolla);
    await expectRendered(cloud, { external: ['cloud.test'], internal: ['internal.cloud.test'] });

    const done = await kolla.actions('ctl1');
    expect(done).toMatchObject([
      { name: 'kacme_ssh', image: 'registry.example.org/kolla/kacme-ssh:2026.1-debian-trixie' },
      { name: 'bootstrap_kacme', environment: { NODE_EXTRA_CA_CERTS: BUNDLE_OF_ROCKY } },
      {
        name: 'kacme',
        image: 'registry.example.org/kolla/kacme:2026.1-debian-trixie',
        environment: { NODE_EXTRA_CA_CERTS: BUNDLE_OF_ROCKY },
      },
    ]);
    // Directories are 0700 all the same: kolla_set_configs sees to that.
    expect(JSON.parse(await kolla.read('ctl1', 'kacme/config.json')).permissions).toEqual([
      { path: '/var/lib/kacme', owner: 'kacme:kacme', perm: '0600', recurse: true },
    ]);
    kolla.useAnsible('2.19');
    const again = await kolla.play(['prepare.yml', 'loadbalancer.yml', 'kacme.yml'], 'deploy');
    expect(changes(expectDone(again)), again.output).toBe(0);
    expect(await kolla.actions('ctl1')).toEqual(done);

    // Kolla would restart kacme in each deployment, for ever, if its config.json had once listed more than now.
    const places = async (): Promise<readonly string[]> =>
      JSON.parse(await kolla.read('ctl1', 'kacme/config.json')).config_files.map(
        ({ dest }: { dest: string }) => dest,
      );
    const before = await places();
    const directory = join(kolla.path, 'hosts/ctl1/kacme');
    await writeFile(join(directory, 'id_haproxy_ssh'), '');
    const kept = ['config.json', 'id_ed25519', 'id_ed25519.pub', 'kacme.yaml', 'known_hosts'];
    expect(await readdir(directory)).toEqual(
      expect.arrayContaining([...kept, 'private-ca.pem', 'public-eab.key']),
    );
    const unset = {
      kacme_internal_acme_directory: '',
      kacme_internal_acme_ca_file: '',
      kacme_acme_eab_key_id: '',
      kacme_acme_eab_hmac_key: '',
    };
    expectDone(await kolla.play('kacme.yml', 'config', '-e', JSON.stringify(unset)));
    expect(await places()).toEqual(before);
    expect((await readdir(directory)).toSorted()).toEqual(kept);
  },
);

test(
  'IPv6 addresses are put in brackets where they need them; check mode finds nothing to change afterwards',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({
      globals: {
        api_address_family: 'ipv6',
        enable_horizon: false,
        standin_address: 'fd00::11',
        standin_internal_vip: 'fd00::10',
        standin_external_vip: 'fd00::20',
        kacme_config_override: { reconcile: { every: '15s' } },
      },
    });
    await deploy(kolla, 'config');
    await expectValidConfiguration(kolla, 'ctl1');
    const config = parse(await kolla.read('ctl1', 'kacme/kacme.yaml'));
    expect(config.reconcile).toEqual({ every: '15s' });
    expect(config.challenge.listen).toMatch(/^\[fd00::11\]:\d+$/);
    expect(await kolla.read('ctl1', 'haproxy/services.d/kacme.cfg')).toContain('bind [fd00::20]:');
    const haproxy = await renderedHaproxy(kolla, 'ctl1');
    onTestFinished(() => haproxy[Symbol.asyncDispose]());
    await expectSound(haproxy);

    const checked = await kolla.play(['prepare.yml', 'kacme.yml'], 'deploy', '--check');
    expect(changes(expectDone(checked)), checked.output).toBe(0);
  },
);

test(
  'the certificate of an address is the one that HAProxy presents to who asks for no name',
  TIMEOUT,
  async () => {
    const { kolla } = await cloudOf({
      globals: {
        kolla_internal_fqdn: '10.0.0.10',
        kacme_internal_acme_directory: 'https://ca.cloud.test/directory',
      },
    });
    expectDone(await kolla.play('prepare.yml', 'config'));
    expect(await readFile(join(kolla.path, 'etc/config/haproxy/services.d/kacme.cfg'), 'utf8')).toContain(
      'ssl crt /etc/haproxy/certificates/haproxy-internal.pem crt /etc/haproxy/certificates/haproxy.pem\n',
    );
  },
);
