import { once } from 'node:events';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { signalAll } from '../support/process.ts';
import { describeEachHaproxy, type HaproxyLab } from './haproxy-fixture.ts';

const signal = () => AbortSignal.timeout(10_000);

/** A client that keeps the worker which serves it from ending. */
async function keepConnected({ host: { haproxy } }: HaproxyLab): Promise<void> {
  const client = connect({
    host: haproxy.address,
    port: haproxy.tlsPort,
    servername: 'lb.test',
    rejectUnauthorized: false,
  });
  onTestFinished(() => void client.destroy());
  await once(client, 'secureConnect');
}

describeEachHaproxy((haproxyLab) => {
  const labWithBothSockets = () =>
    haproxyLab({
      pool: ({ haproxy }) => ({
        haproxy: { socket: haproxy.socketPath, masterSocket: haproxy.masterSocketPath },
      }),
    });
  const workersOf = async (lab: HaproxyLab) => {
    const { haproxy } = await lab.haproxy.observe([lab.deployment], { signal: signal() });
    return haproxy.state === 'running' ? haproxy.workers : undefined;
  };

  test('an old worker that serves a connection to the end is counted, and does not listen', async () => {
    const lab = await labWithBothSockets();
    await keepConnected(lab);
    await lab.host.haproxy.reload();
    await eventually('the old worker is listed as such', async () => (await workersOf(lab))?.old === 1);
    expect(await workersOf(lab)).toEqual({ current: 1, old: 1, listening: [] });
  });

  test('an old worker that does not answer is named: nobody knows what it still does', async () => {
    const lab = await labWithBothSockets();
    const [, worker = 0] = lab.host.haproxy.pids();
    await keepConnected(lab);
    await lab.host.haproxy.reload();
    await eventually('the old worker is listed as such', async () => (await workersOf(lab))?.old === 1);
    signalAll([worker], 'SIGSTOP');
    onTestFinished(() => signalAll([worker], 'SIGCONT'));
    expect(await workersOf(lab)).toEqual({ current: 1, old: 1, listening: [worker] });
  });
});
