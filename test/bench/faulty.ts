import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { freePort, loopbackAddress } from '../support/net.ts';
import { type Benchmark, FIFTY_HOSTS, type Measure } from './benchmark.ts';
import type { Endpoint } from './handshakes.ts';
import { startLab } from './lab.ts';
import { measureRollouts, ROLLED_OUT } from './rollout.ts';

/** No target but "they delay nobody": the same hosts are measured without them, and with them. */
export const faulty: Benchmark = {
  name: 'faulty',
  about: `bundle issued to last of ${FIFTY_HOSTS} hosts serving it, without and with one dead and one hanging host beside them`,
  run: async (options) => {
    const { hosts = FIFTY_HOSTS, command } = options;
    const lab = await startLab({ hosts, identifiers: [ROLLED_OUT], command });
    try {
      const measures: Measure[] = [];
      const sound = await lab.install({ deployed: true });
      await lab.serve(sound);
      const measured = { lab, installation: sound, name: 'faulty.without', suffix: '', targets: undefined };
      measures.push(...(await measureRollouts(measured, options)));

      const hanging = await startHangingHost();
      try {
        const broken = [await deadHost(), hanging.endpoint];
        const installation = await lab.install({ deployed: true, broken });
        const suffix = ', beside a dead and a hanging one';
        measures.push(
          ...(await measureRollouts({ ...measured, installation, name: 'faulty.with', suffix }, options)),
        );
      } finally {
        await hanging.close();
      }
      return measures;
    } finally {
      await lab.close();
    }
  },
};

/** Nothing listens there: each connection is refused at once. */
async function deadHost(): Promise<Endpoint> {
  const address = loopbackAddress();
  return { address, port: await freePort(address) };
}

/** Accepts and never says a word, as a frozen sshd. */
async function startHangingHost(): Promise<{ endpoint: Endpoint; close(): Promise<void> }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => open.delete(socket));
    socket.resume();
  });
  const endpoint = await deadHost();
  server.listen(endpoint.port, endpoint.address);
  await once(server, 'listening');
  return {
    endpoint,
    close: async () => {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, 'close');
    },
  };
}
