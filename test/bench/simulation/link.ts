import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type LinkQuality, MilesAway } from './miles-away.ts';

export interface LinkEnds {
  readonly address: string;
  /** Where the link is entered. */
  readonly from: number;
  /** What it leads to. */
  readonly to: number;
}

/** Ways of TCP's handshake that loopback does not show: SYN, SYN-ACK, and the ACK that lets the host accept. */
const HANDSHAKE_WAYS = 3;

/** Resolves once connections are taken; each is as good as `quality` says when something is sent. */
export async function openLink({ address, from, to }: LinkEnds, quality: LinkQuality): Promise<Server> {
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
  return server;
}

function carry(source: Socket, sink: Socket, way: MilesAway): void {
  source.on('data', (chunk) => way.send(chunk.length, () => void (sink.destroyed || sink.write(chunk))));
  source.on('end', () => way.send(0, () => sink.end()));
  // A connection that breaks on one side breaks on the other, as late.
  source.on('error', () => way.send(0, () => sink.destroy()));
  source.on('close', () => way.send(0, () => sink.destroy()));
}
