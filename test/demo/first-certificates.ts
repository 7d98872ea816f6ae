import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestFleet } from '../support/fleet.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import { endpoints, newCertificatesOn, runKacme, type Scene, type Served } from './scene.ts';
import { ALL_NAMES, CERTIFICATES } from './stage.ts';
import { Unexpected } from './unexpected.ts';

/** From hosts that cannot even start to hosts that serve certificates of the CA. */
export async function firstCertificates(scene: Scene): Promise<Served> {
  await bootstrap(scene);
  return serve(scene);
}

async function bootstrap(scene: Scene): Promise<void> {
  const { narrator, fleet, handshakes } = scene;
  narrator.step('Before the first certificate: kacme bootstrap');
  narrator.say(
    'HAProxy does not start without its PEM files, and a CA does not issue without HAProxy. So each host ' +
      'first gets self-signed ones.',
  );
  await runKacme(scene, ['bootstrap'], { status: 0 });
  await narrator.check('every host has its two bundles, readable by their owner alone', () =>
    bundlesArePrivate(fleet),
  );
  await narrator.check('HAProxy starts on every host', async () => {
    await Promise.all(fleet.hosts.map(({ haproxy }) => haproxy.start()));
  });
  await narrator.check('every host presents a self-signed certificate that covers each name', async () => {
    for (const { names } of Object.values(CERTIFICATES))
      await handshakes.sameLeaf(endpoints(fleet.hosts), names, { root: undefined });
  });
}

async function bundlesArePrivate({ hosts }: TestFleet): Promise<void> {
  for (const { address, directory } of hosts) {
    for (const { file } of Object.values(CERTIFICATES)) {
      const path = join(haproxyPaths(directory).certDirectory, file);
      const mode = (await stat(path)).mode & 0o777;
      if (mode !== 0o600) throw new Unexpected(`${path} of ${address} has mode 0${mode.toString(8)}`);
    }
  }
}

async function serve(scene: Scene): Promise<Served> {
  const { narrator, fleet, kacme, plan } = scene;
  narrator.step('From the CA to every host: kacme serve');
  narrator.say(
    `kacme orders at once. The CA fetches each challenge from port ${plan.ports.http} of ` +
      `${plan.network.hosts[0]}, where HAProxy passes it on to kacme; kacme tries that way itself before it asks.`,
  );
  narrator.command('kacme serve &');
  await narrator.check('the service is ready', () => kacme.serve());
  const before = processIds(fleet);
  const served = await narrator.check(
    `every host presents certificates of the CA for all ${ALL_NAMES.length} names`,
    () => newCertificatesOn(scene, fleet.hosts, {}),
  );
  await narrator.check('without a reload: the HAProxy processes are the same', async () => {
    if (processIds(fleet) !== before) throw new Unexpected(`processes ${before} became ${processIds(fleet)}`);
  });
  return served as Served;
}

export const processIds = ({ hosts }: TestFleet): string =>
  hosts.map(({ haproxy }) => haproxy.pids().join(' ')).join(', ');
