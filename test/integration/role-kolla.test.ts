import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { askForChallenge, startCloud } from '../support/kolla-cloud.ts';
import { renderedHaproxy } from '../support/kolla-haproxy.ts';

const { KOLLA_ANSIBLE_SRC: source } = process.env;

/** What Kolla's own templates read besides what the stand-in defines. */
const KOLLA = {
  haproxy_enable_http2: false,
  haproxy_http2_protocol: 'alpn h2,http/1.1',
  haproxy_frontend_tcp_extra: [],
  haproxy_backend_http_extra: [],
  haproxy_backend_tcp_extra: [],
  haproxy_health_check: 'check',
  enable_memcached: true,
  horizon_enable_tls_backend: false,
  horizon_listen_port: '9',
  // The names of hosts, too.
  kolla_ansible_setup_gather_subset: '!all,min',
};

const skipped = source === undefined ? ' (KOLLA_ANSIBLE_SRC names no checkout of kolla-ansible)' : '';

test.skipIf(source === undefined).each([
  { title: 'standalone', globals: {} },
  { title: 'replacing lego', globals: { kacme_integration: 'replace_lego', enable_letsencrypt: 'yes' } },
])(
  `Kolla's own templates lead challenges to kacme, $title${skipped}`,
  { timeout: 300_000 },
  async ({ globals }) => {
    const cloud = await startCloud({ groups: { horizon: ['ctl1'] }, globals: { ...KOLLA, ...globals } });
    onTestFinished(() => cloud[Symbol.asyncDispose]());
    const { kolla, httpPort, answer } = cloud;
    for (const template of [
      'haproxy-config/templates/haproxy_single_service_split.cfg.j2',
      'loadbalancer/templates/haproxy/haproxy_run.sh.j2',
    ])
      await copyFile(
        join(source ?? '', 'ansible/roles', template),
        join(kolla.path, 'playbooks/roles', template),
      );
    // Kolla's own list of frontends, too: it differs from release to release.
    const horizon = ['-e', `@${join(source ?? '', 'ansible/roles/horizon/defaults/main.yml')}`];
    for (const playbook of ['prepare.yml', 'loadbalancer.yml']) {
      const { status, output } = await kolla.play(playbook, 'deploy', ...horizon);
      expect(status, output).toBe(0);
    }
    const haproxy = await renderedHaproxy(kolla, 'ctl1');
    onTestFinished(() => haproxy[Symbol.asyncDispose]());
    const checked = await haproxy.check();
    expect(checked.status, checked.output).toBe(0);
    const running = await haproxy.start();
    onTestFinished(() => running.stop());
    for (const vip of [cloud.internalVip, cloud.externalVip])
      expect(await askForChallenge(vip, httpPort)).toEqual({ status: 200, body: answer });
  },
);
