import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '../../support/net.ts';
import type { Endpoint } from '../handshakes.ts';
import type { SshFront } from '../lab.ts';
import { BARE_ENVIRONMENT, tied } from '../service.ts';
import type { LinkOrder } from './delayer.ts';
import type { LinkQuality } from './miles-away.ts';

const QUALITY: LinkQuality = { wayMs: 10, loss: 0.001, stallMs: 200 };
const LINKS_OF_A_PROCESS = 25;

export function describeLinks(): string {
  const { wayMs, loss, stallMs } = QUALITY;
  return `a proxy of the bench's own: ${2 * wayMs} ms of delay, ${loss * 100} % of segments ${stallMs} ms late`;
}

/** A proxy before each sshd, on another port of its address, in processes of their own. */
export async function startSlowLinks(sshds: readonly Endpoint[], delayer: string): Promise<SshFront> {
  const children: ChildProcess[] = [];
  const close = async () => void (await Promise.all(children.map(stop)));
  try {
    const links: LinkOrder['links'][number][] = [];
    for (const { address, port } of sshds) {
      links.push({ address, from: await freePort(address), to: port });
    }
    for (let at = 0; at < links.length; at += LINKS_OF_A_PROCESS) {
      const child = spawn(...tied([delayer]), {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        env: BARE_ENVIRONMENT,
      });
      children.push(child);
      await begin(child, { quality: QUALITY, links: links.slice(at, at + LINKS_OF_A_PROCESS) });
    }
    return { endpoints: links.map(({ address, from }) => ({ address, port: from })), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function begin(child: ChildProcess, order: LinkOrder): Promise<void> {
  const gone = new AbortController();
  const onExit = () => gone.abort(new Error('a delayer has ended'));
  child.once('exit', onExit);
  try {
    child.send(order);
    await once(child, 'message', { signal: gone.signal });
  } finally {
    child.off('exit', onExit);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.disconnect();
  await ended;
}
