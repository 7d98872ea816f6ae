import { once } from 'node:events';
import { chown } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { type Hold, Holds, type Side } from './holds.ts';
import { labAccount } from './programs.ts';

export interface SocketGate {
  /** Every command line that reached HAProxy. */
  readonly passed: readonly string[];
  /** Stops the next connection whose first line matches. */
  hold(command: RegExp, side: Side): Hold;
  /** Gives other bytes in place of the next answer to a command that matches; HAProxy has obeyed it all the same. */
  tamper(command: RegExp, answer: (real: string) => string): void;
  close(): Promise<void>;
}

/** A pass-through in front of HAProxy's stats socket that stops what a test wants stopped. */
export async function startSocketGate(path: string, haproxySocketPath: string): Promise<SocketGate> {
  const holds = new Holds();
  const passed: string[] = [];
  const open = new Set<Socket>();
  const tampered: { readonly command: RegExp; readonly answer: (real: string) => string }[] = [];
  const follow = (socket: Socket) => {
    open.add(socket);
    // Either side may go away at any time: the other then goes too.
    socket.on('error', () => socket.destroy()).on('close', () => open.delete(socket));
  };
  const forward = async (client: Socket): Promise<void> => {
    follow(client);
    const request: Buffer[] = [];
    // Read all the while: a client that goes away is noticed only so.
    client.on('data', (chunk) => request.push(chunk));
    await once(client, 'data');
    const [command = ''] = Buffer.concat(request).toString().split('\n');
    await holds.pass(command, 'before');
    if (client.destroyed) return;
    const haproxy = connect(haproxySocketPath);
    follow(haproxy);
    passed.push(command);
    const answer: Buffer[] = [];
    haproxy.on('data', (chunk) => answer.push(chunk));
    haproxy.write(Buffer.concat(request));
    client.on('data', (more) => haproxy.write(more));
    client.on('close', () => haproxy.destroy());
    await once(haproxy, 'close');
    await holds.pass(command, 'after');
    const real = Buffer.concat(answer).toString();
    const nth = tampered.findIndex((one) => one.command.test(command));
    const [one] = nth < 0 ? [] : tampered.splice(nth, 1);
    client.end(one?.answer(real) ?? real);
  };
  const server = createServer((client) => {
    forward(client).catch(() => client.destroy());
  });
  server.listen(path);
  await once(server, 'listening');
  const { uid, gid } = labAccount();
  await chown(path, uid, gid);
  return {
    passed,
    hold: (command, side) => holds.next(command, side),
    tamper: (command, answer) => void tampered.push({ command, answer }),
    close: async () => {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, 'close');
    },
  };
}
