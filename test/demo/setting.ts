import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import type { TestFleet } from '../support/fleet.ts';
import type { TestPebble } from '../support/pebble.ts';
import { renderConfiguration } from './configuration.ts';
import { Handshakes } from './handshakes.ts';
import { Kacme } from './kacme.ts';
import type { Narrator } from './narrator.ts';
import { runKacme, type Scene } from './scene.ts';
import {
  ALL_NAMES,
  CERTIFICATES,
  makePlan,
  type Plan,
  poolsOf,
  prepareHosts,
  startAuthority,
} from './stage.ts';
import { Unexpected } from './unexpected.ts';

export interface SettingOptions {
  readonly narrator: Narrator;
  /** The demo's own directory. */
  readonly directory: string;
  /** The bundled kacme. */
  readonly command: string;
  readonly signal: AbortSignal;
  /** Called as soon as something runs that has to be stopped, last in first out. */
  readonly onStop: (stop: () => Promise<void>) => void;
  /** Called with what a server has said so far, for when the demo fails. */
  readonly onOutput: (name: string, output: () => string) => void;
}

/** A CA, hosts without a certificate, a configuration: all that is there before kacme. */
export async function setTheScene(options: SettingOptions): Promise<Scene> {
  const { narrator, directory, signal } = options;
  const plan = await makePlan(directory);
  const pebble = await authority(options, plan);
  const fleet = await hosts(options, plan);
  const kacme = await configuration(options, { plan, pebble, fleet });
  return { narrator, plan, pebble, fleet, kacme, handshakes: new Handshakes(), signal };
}

async function authority({ narrator, onStop, onOutput }: SettingOptions, plan: Plan): Promise<TestPebble> {
  narrator.step('A certificate authority');
  narrator.say(
    `Pebble, the ACME server that the people of Let's Encrypt test with. In its DNS every name leads to ` +
      `${plan.network.hosts[0]}, the first of the hosts below.`,
  );
  return narrator.check(
    'it answers',
    async () => {
      const pebble = await startAuthority(plan);
      onStop(pebble.close);
      onOutput('pebble', pebble.output);
      const [response] = await once(
        get(pebble.directoryUrl, { ca: await readFile(pebble.caFile) }),
        'response',
      );
      response.resume();
      if (response.statusCode !== 200) throw new Unexpected(`HTTP ${response.statusCode}`);
      return pebble;
    },
    ({ directoryUrl }) => directoryUrl,
  );
}

async function hosts({ narrator, onStop, onOutput }: SettingOptions, plan: Plan): Promise<TestFleet> {
  const { ssh, http, tls } = plan.ports;
  narrator.step('Three hosts with HAProxy');
  narrator.say(
    `Each has an address of its own with sshd on port ${ssh} and HAProxy on ${http} and ${tls}. kacme's account ` +
      'may transfer files and reach one socket: it has no shell.',
  );
  const fleet = await narrator.check(
    'sshd is up on every host',
    async () => {
      const fleet = await prepareHosts(plan);
      onStop(fleet.close);
      fleet.hosts.forEach(({ haproxy, sshd }, i) => {
        onOutput(`haproxy-${i + 1}`, haproxy.output);
        onOutput(`sshd-${i + 1}`, sshd.output);
      });
      return fleet;
    },
    () => plan.network.hosts.join('  '),
  );
  await narrator.check('HAProxy does not start: it has no certificate to load', async () => {
    for (const { address, haproxy } of fleet.hosts) {
      const started = await haproxy.start().then(
        () => true,
        () => false,
      );
      if (started) throw new Unexpected(`HAProxy runs on ${address}`);
    }
  });
  if (plan.seenAt === undefined)
    narrator.say(
      'This machine grants no mount namespaces, so the hosts differ in their paths: each is a pool of its own below.',
    );
  return fleet;
}

async function configuration(
  { narrator, directory, command, signal, onStop }: SettingOptions,
  { plan, pebble, fleet }: { plan: Plan; pebble: TestPebble; fleet: TestFleet },
): Promise<Kacme> {
  const { network, ports } = plan;
  const configPath = join(directory, 'kacme.yaml');
  const logs = join(directory, 'logs');
  await mkdir(logs, { mode: 0o700 });
  const text = renderConfiguration({
    directoryUrl: pebble.directoryUrl,
    caFile: pebble.caFile,
    certificates: CERTIFICATES,
    pools: poolsOf(fleet, plan),
    ssh: { user: fleet.user, identity: fleet.identityFile, knownHosts: fleet.knownHostsFile },
    tlsPort: ports.tls,
    challengeListen: `${network.kacme}:${ports.challenge}`,
    dns: pebble.dns,
    challengeVia: `http://${network.hosts[0]}:${ports.http}`,
    operationsListen: `${network.kacme}:${ports.operations}`,
    stateDirectory: join(directory, 'state'),
  });
  await writeFile(configPath, text);
  const kacme = new Kacme({
    command,
    configPath,
    logPath: join(logs, 'kacme.log'),
    operations: `http://${network.kacme}:${ports.operations}`,
    signal,
  });
  onStop(() => kacme.stop());
  narrator.step(`kacme's whole configuration: two certificates, ${ALL_NAMES.length} names, three hosts`);
  narrator.show(text);
  await runKacme({ narrator, kacme }, ['config', 'check'], { status: 0 });
  return kacme;
}
