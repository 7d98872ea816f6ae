import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type LinkQuality, MilesAway } from './miles-away.ts';

/** What the bench asks a delayer for, over its channel: one link for each host. */
export interface LinkOrder {
  readonly quality: LinkQuality;
  readonly links: readonly { readonly address: string; readonly from: number; readonly to: number }[];
}

/** Ways of TCP's handshake that loopback does not show: SYN, SYN-ACK, and the ACK that lets the host accept. */
const HANDSHAKE_WAYS = 3;

async function obey({ quality, links }: LinkOrder): Promise<void> {
  for (const { address, from, to } of links) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      const host = connect({ host: address, port: to, allowHalfOpen: true, noDelay: true });
      // The host hears of the client once the handshake would be over, and so does what it says.
      const there = new MilesAway(quality, HANDSHAKE_WAYS * quality.wayMs);
      const back = new MilesAway(quality, (HANDSHAKE_WAYS + 1) * quality.wayMs);
      carry(client, host, there);
      carry(host, client, back);
    });
    server.listen(from, address);
    await once(server, 'listening');
  }
  process.send?.({ links: links.length });
}

function carry(source: Socket, sink: Socket, way: MilesAway): void {
  source.on('data', (chunk) => way.send(chunk.length, () => void (sink.destroyed || sink.write(chunk))));
  source.on('end', () => way.send(0, () => sink.end()));
  // A connection that breaks on one side breaks on the other, as late.
  source.on('error', () => way.send(0, () => sink.destroy()));
  source.on('close', () => way.send(0, () => sink.destroy()));
}

process.on('message', (order: LinkOrder) => void obey(order));
process.on('disconnect', () => process.exit());
