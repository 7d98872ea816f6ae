import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { freePort } from '../support/net.ts';

/** The addresses of one run: a random part of 127.0.0.0/8, so that runs beside each other do not meet. */
export interface Network {
  readonly kacme: string;
  readonly hosts: readonly string[];
}

export function chooseNetwork(): Network {
  const prefix = `127.${randomInt(1, 255)}.${randomInt(1, 255)}`;
  return { kacme: `${prefix}.10`, hosts: [11, 12, 13].map((last) => `${prefix}.${last}`) };
}

/** A port that is free on all of `addresses`: `preferred` if it can be had. */
export async function portFor(addresses: readonly string[], preferred: number): Promise<number> {
  const [first = '127.0.0.1'] = addresses;
  for (let candidate = preferred, attempts = 0; attempts < 20; attempts++) {
    const free = await Promise.all(addresses.map((address) => isFree(address, candidate)));
    if (free.every(Boolean)) return candidate;
    candidate = await freePort(first);
  }
  throw new Error(`no port is free on all of ${addresses.join(', ')}`);
}

async function isFree(address: string, port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, address);
    await once(server, 'listening');
  } catch {
    return false; // Whatever keeps it from us, another port will do.
  }
  server.close();
  await once(server, 'close');
  return true;
}
