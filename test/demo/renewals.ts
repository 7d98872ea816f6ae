import { eventually } from '../support/eventually.ts';
import type { TestPebble } from '../support/pebble.ts';
import { processIds } from './first-certificates.ts';
import { startLoad } from './load.ts';
import { endpoints, newCertificatesOn, runKacme, type Scene, type Served } from './scene.ts';
import { CERTIFICATES } from './stage.ts';
import { Unexpected } from './unexpected.ts';

/** What a fleet goes through in its years, in a few seconds. */
export async function renewals(scene: Scene, first: Served): Promise<void> {
  const second = { ...first, ...(await renewalUnderLoad(scene, first)) };
  const third = { ...second, ...(await absentHost(scene, second)) };
  await killedInTheMiddle(scene, third);
}

async function renewalUnderLoad(scene: Scene, old: Served): Promise<Partial<Served>> {
  const { narrator, fleet, signal } = scene;
  narrator.step('A renewal under load drops no connection');
  narrator.say(
    'Clients ask all hosts without a pause, some with a new connection and a full handshake for each request, ' +
      'some on connections that they keep. Meanwhile everything is renewed.',
  );
  const processes = processIds(fleet);
  await using load = startLoad(fleet.hosts, signal);
  await load.hasAnswered(300);
  await runKacme(scene, ['renew', '--force'], { status: 0 });
  const served = await narrator.check('every host presents the new certificates', () =>
    newCertificatesOn(scene, fleet.hosts, old),
  );
  await load.hasAnswered(load.answered() + 300);
  const count = (requests: number) => requests.toLocaleString('en');
  await narrator.check(
    'not one connection failed',
    () => load.end(old, served),
    ({ before, after }) => `${count(before)} requests met old certificates, ${count(after)} new ones`,
  );
  await narrator.check('without a reload: the HAProxy processes are the same', async () => {
    if (processIds(fleet) !== processes)
      throw new Unexpected(`processes ${processes} became ${processIds(fleet)}`);
  });
  return served;
}

async function absentHost(scene: Scene, old: Served): Promise<Partial<Served>> {
  const { narrator, fleet, handshakes, pebble, kacme } = scene;
  const present = fleet.hosts.slice(0, -1);
  const absent = fleet.hosts.at(-1);
  if (absent === undefined) throw new Unexpected('no host');
  narrator.step('A host that is down during a renewal catches up by itself');
  await narrator.check(`${absent.address} is stopped, its sshd and its HAProxy`, async () => {
    await Promise.all([absent.sshd.stop(), absent.haproxy.stop()]);
  });
  await runKacme(scene, ['renew', 'external', '--force'], { status: 3 });
  const served = await narrator.check('the other hosts present the new certificate', () =>
    newCertificatesOn(scene, present, old, ['external']),
  );
  await narrator.check('kacme status names the host that is missing', async () => {
    const { hosts } = await kacme.status();
    const unreachable = hosts.filter(({ reachable }) => reachable === false).map(({ host }) => host);
    if (unreachable.join() !== absent.address)
      throw new Unexpected(`unreachable, as kacme says: ${unreachable.join(', ') || 'none'}`);
  });
  await narrator.check('it returns, and presents the certificate that it had', async () => {
    await absent.haproxy.start();
    const root = await pebble.issuingRoot();
    const leaf = await handshakes.sameLeaf(endpoints([absent]), CERTIFICATES.external.names, { root });
    if (leaf.fingerprint256 !== old.external.fingerprint256)
      throw new Unexpected('it presents another certificate than before');
    await absent.sshd.start();
  });
  await narrator.check('left alone, it soon presents the new one like all others', () =>
    newCertificatesOn(scene, fleet.hosts, old, ['external']),
  );
  return served;
}

async function killedInTheMiddle(scene: Scene, old: Served): Promise<void> {
  const { narrator, fleet, kacme, pebble, signal } = scene;
  narrator.step('Killed in the middle of an order, kacme goes on where it was');
  narrator.say("What the CA is told is in kacme's store first, the key of the new certificate included.");
  const ordersBefore = ordersAt(pebble);
  const said = pebble.output().length;
  narrator.command('kacme renew external --force &');
  await narrator.check('kill -9 as soon as the CA was asked to finalize the order', async () => {
    const asked = kacme.run('renew', 'external', '--force');
    // Not while the CA validates: with nobody to answer its challenge it would rightly call the order invalid.
    const finalized = eventually(
      'the CA is asked to finalize',
      () => pebble.output().slice(said).includes('POST /finalize-order/'),
      { signal, timeoutMs: 30_000 },
    );
    await Promise.all([asked, finalized.then(() => kacme.kill())]);
  });
  narrator.command('kacme serve &');
  await narrator.check('the service is ready again', () => kacme.serve());
  await narrator.check('every host presents the certificate of that order', () =>
    newCertificatesOn(scene, fleet.hosts, old, ['external']),
  );
  await narrator.check('nothing was ordered twice', async () => {
    const orders = ordersAt(pebble) - ordersBefore;
    if (orders !== 1) throw new Unexpected(`${orders} orders arrived at the CA`);
  });
}

const ordersAt = (pebble: TestPebble): number => pebble.output().split('POST /order-plz').length - 1;
