import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** A random address of 127.0.0.0/8, so that runs beside each other do not share ports. */
export function loopbackAddress(): string {
  return `127.${randomInt(1, 255)}.${randomInt(0, 256)}.${randomInt(1, 255)}`;
}

/** The kernel may name a port again as soon as it is given back: each goes to one caller of this process only. */
const given = new Set<string>();

/** A TCP port that was free on `address` just now, and that nobody else in this process was given. */
export async function freePort(address: string): Promise<number> {
  for (;;) {
    const port = await unusedPort(address);
    const endpoint = `${address} ${port}`;
    if (given.has(endpoint)) continue;
    given.add(endpoint);
    return port;
  }
}

async function unusedPort(address: string): Promise<number> {
  const server = createServer();
  server.listen(0, address);
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  if (bound === null || typeof bound === 'string') throw new Error(`no TCP port on ${address}`);
  return bound.port;
}
