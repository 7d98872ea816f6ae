import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { watchBundle } from '../support/bundle-watch.ts';
import { eventually } from '../support/eventually.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { Hold, Side } from '../support/holds.ts';
import { SEEN_AT, type StartedCommand } from '../support/kacme.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';
import { type SocketGate, startSocketGate } from '../support/socket-gate.ts';

const GATED_SOCKET = 'gated.sock';

/** Where the change of each host stands when kacme dies. */
const MOMENTS: readonly { readonly command: RegExp; readonly side: Side }[] = [
  { command: /^set ssl cert/, side: 'before' },
  { command: /^set ssl cert/, side: 'after' },
  { command: /^commit ssl cert/, side: 'before' },
  { command: /^commit ssl cert/, side: 'after' },
];

test('kacme killed while it changes several hosts, each at another step: all converge, and nothing is left', async () => {
  const gatedPath = join(SEEN_AT, GATED_SOCKET);
  const lab = await labKacme({
    hosts: MOMENTS.length,
    bundlePem: selfSigned('site.test').bundlePem,
    sshd: { forward: [gatedPath, haproxyPaths(SEEN_AT).socketPath] },
  });
  onTestFinished(lab.close);
  const { kacme, fleet } = lab;
  const gates = await Promise.all(
    fleet.hosts.map(({ directory, haproxy }) =>
      startSocketGate(join(directory, GATED_SOCKET), haproxy.socketPath),
    ),
  );
  onTestFinished(async () => void (await Promise.all(gates.map((gate) => gate.close()))));
  await kacme.overlay({ pools: { lb: { haproxy: { socket: gatedPath } } } });
  const service = await kacme.serve();
  await kacme.settled();
  const watches = fleet.hosts.map(({ certPath }) => watchBundle(certPath));
  onTestFinished(async () => void (await Promise.all(watches.map((watch) => watch.stop()))));

  const { renewal, release } = await stopEachAtItsStep(lab, gates);
  service.signal('SIGKILL');
  await service.exited;
  release();
  expect(await renewal.finished).toMatchObject({ status: 1 });

  await kacme.serve();
  const { certificates } = await kacme.settled();
  expect(new Set(await lab.served())).toEqual(new Set([certificates[0]?.fingerprint256]));
  for (const { certPath, haproxy } of fleet.hosts) {
    await eventually('nothing is left beside the bundle', async () =>
      (await readdir(join(certPath, '..'))).every((name) => name === 'haproxy.pem'),
    );
    expect(await haproxy.command('show ssl cert')).not.toContain('# transaction');
  }
  for (const watch of watches) expect((await watch.stop()).unloadable).toEqual([]);
});

/**
 * Brings a new bundle, and stops every host at its own step while the command waits for all of them. On a machine that
 * has no time a host counts as frozen before it comes so far, and the command is answered without it: then all of it
 * begins anew.
 */
async function stopEachAtItsStep(
  { kacme, fleet }: LabKacme,
  gates: readonly SocketGate[],
): Promise<{ renewal: StartedCommand; release: () => void }> {
  for (;;) {
    const holds = MOMENTS.map(({ command, side }, i): Hold => {
      const hold = gates[i]?.hold(command, side);
      if (hold === undefined) throw new Error('every host has its gate');
      return hold;
    });
    const release = () => {
      for (const hold of holds) hold.release();
    };
    const renewal = kacme.start('renew', '--force');
    // Whoever comes first is the canary, on whom the others wait.
    const canary = await Promise.race(holds.map(async (hold) => hold.reached.then(() => hold)));
    canary.release();
    const followers = fleet.hosts.filter((_, i) => holds[i] !== canary);
    const answered = renewal.finished.then(() => 'answered' as const);
    const stopped = Promise.all(holds.map(({ reached }) => reached)).then(() => 'stopped' as const);
    const waited = await Promise.race([stopped, answered]);
    // It tells how each host fared, and is answered after that.
    const awaited = followers.every(({ address }) => !renewal.output().includes(address));
    if (waited === 'stopped' && awaited) return { renewal, release };
    release();
    await renewal.finished;
    await kacme.settled();
  }
}
