import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { SocketLeadership } from '../../src/store/socket-leadership.ts';
import { realClock } from '../contract/real-clock.ts';
import { eventually } from '../support/eventually.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

let lab: LabKacme;
beforeAll(async () => {
  lab = await labKacme({ hosts: 2, bundlePem: selfSigned('site.test').bundlePem });
});
afterAll(() => lab?.close());

test('a host that a reload removes is let go, the others stay connected', async () => {
  const service = await lab.kacme.serve();
  onTestFinished(() => service.stop());
  await lab.kacme.settled();
  const [kept, removed] = lab.fleet.hosts;
  if (kept === undefined || removed === undefined) throw new Error('the lab has two hosts');
  const sessionOf = (host: typeof kept) => host.sshd.pids().length > 1;
  expect([kept, removed].map(sessionOf)).toEqual([true, true]);

  await lab.kacme.overlay({ pools: { lb: { hosts: [`${kept.address}:${kept.sshd.port}`] } } });
  onTestFinished(() => lab.kacme.overlay({}));
  expect(await lab.kacme.run('reload-config')).toMatchObject({ status: 0 });

  await eventually('its connection is closed', () => !sessionOf(removed));
  expect(sessionOf(kept)).toBe(true);
});

test('SIGHUP while the service waits for its port is obeyed when it is up', async ({ signal }) => {
  // As a one-shot command would: it holds the lock, and answers challenges itself.
  const leadership = new SocketLeadership(lab.kacme.storePath, { clock: realClock, command: 'a test' });
  const mandate = await leadership.tryAcquire({ signal });
  if (mandate === undefined) throw new Error('the store is free');
  onTestFinished(() => mandate.release());
  const [address = '', port] = lab.challengeListen.split(':');
  const occupant = createServer().listen(Number(port), address);
  await once(occupant, 'listening');
  onTestFinished(() => void occupant.close());
  const service = lab.kacme.start('serve');
  onTestFinished(async () => {
    service.signal('SIGKILL');
    await service.finished;
  });
  await eventually('it waits', () => service.output().includes('waiting for the challenge port'));

  await lab.kacme.overlay({ reconcile: { every: '2s' } });
  onTestFinished(() => lab.kacme.overlay({}));
  service.signal('SIGHUP');
  occupant.close();
  await mandate.release();

  await eventually('it is obeyed', () => service.output().includes('configuration taken over'));
  service.signal('SIGTERM');
  expect(await service.finished).toMatchObject({ status: 0 });
});

test('SIGHUP while the service stops keeps it from nothing', async () => {
  const service = await lab.kacme.serve();
  onTestFinished(() => service.stop());
  const socketPath = join(lab.kacme.storePath, 'kacme.sock');
  // A command that is never sent whole: the stop waits a while for it, after it has given everything else back.
  const client = connect(socketPath);
  onTestFinished(() => void client.destroy());
  client.write(
    'POST /v1/distribute HTTP/1.1\r\nhost: kacme\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n',
  );
  expect(String((await once(client, 'data'))[0])).toContain('100 Continue');

  service.signal('SIGTERM');
  const socketIsGone = () =>
    access(socketPath).then(
      () => false,
      () => true,
    );
  await eventually('only the command is left', socketIsGone);
  service.signal('SIGHUP');
  client.end('{}');

  expect(await service.exited).toEqual({ code: 0, signal: null });
  expect(service.log().map(({ msg }) => msg)).toContain('stopped');
});
