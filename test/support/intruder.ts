import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { Client } from 'ssh2';

export interface Intrusion {
  /** What a command line begins with that is run where the connection comes from; nothing: here. */
  readonly enter: readonly string[];
  readonly address: string;
  readonly port: number;
  readonly privateKey: string;
}

/** A client of the user haproxy with the key of kacme that asks for what kacme never would. Rejects when it is not let in. */
export async function intruder({
  enter,
  privateKey,
  ...target
}: Intrusion): Promise<Client & AsyncDisposable> {
  const client = new Client();
  client.connect({ sock: connectionFrom(enter, target), username: 'haproxy', privateKey });
  await once(client, 'ready');
  return Object.assign(client, {
    [Symbol.asyncDispose]: async () => {
      client.end();
      await once(client, 'close');
    },
  });
}

/** A TCP connection of another process, such as one in another network namespace. */
function connectionFrom(
  enter: readonly string[],
  { address, port }: Pick<Intrusion, 'address' | 'port'>,
): Duplex {
  const script = `const socket = require('node:net').connect(${port}, '${address}'); process.stdin.pipe(socket).pipe(process.stdout)`;
  const [command = '', ...args] = [...enter, process.execPath, '-e', script];
  const { stdin, stdout } = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  return Duplex.from({ readable: stdout, writable: stdin });
}
