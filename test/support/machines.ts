import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { ipCommand } from '../setup/containers.mjs';
import { type RunningProcess, startProcess } from './process.ts';

const run = promisify(execFile);

/** A network namespace (network_namespaces(7)) with one interface: what a host is to those who reach it by IP. */
export interface TestMachine {
  readonly address: string;
  /** For `podman run --network`. */
  readonly network: string;
  /** What a command line begins with that is run there. */
  readonly enter: readonly string[];
  /** A further address, such as a virtual one; whoever had it before has to give it up. */
  take(address: string): Promise<void>;
  giveUp(address: string): Promise<void>;
}

/** Machines on one Ethernet, which this process is on, too. */
export interface TestNetwork extends AsyncDisposable {
  /** Of this process. */
  readonly address: string;
  /** An address of the network that no machine has. */
  freeAddress(): string;
  addMachine(): Promise<TestMachine>;
  close(): Promise<void>;
}

/**
 * Namespaces have no names: each is held by a process that dies with this one, and the interfaces go with them. Needs
 * what `whyNoNetworks` says.
 */
export async function startNetwork(): Promise<TestNetwork> {
  const holders: RunningProcess[] = [];
  const close = async () => {
    await Promise.all(holders.map((holder) => holder.stop()));
  };
  try {
    const hold = async () => {
      const holder = await holdNamespace();
      holders.push(holder);
      return holder.pid;
    };
    const machines: number[] = [];
    /** As the gratuitous ARP of keepalived does: nobody goes on sending to who had the address before. */
    const forget = async (address: string) => {
      const words = ['neigh', 'flush', 'to', address];
      await Promise.all([ip(...words), ...machines.map((pid) => inside(pid, ...words))]);
    };
    const prefix = freePrefix();
    let last = 1;
    const nextAddress = () => `${prefix}.${++last}`;
    const switchPid = await hold();
    const own = `kacme-${switchPid}`;
    await inside(switchPid, 'link', 'add', 'bridge', 'type', 'bridge');
    await inside(switchPid, 'link', 'set', 'bridge', 'up');
    await ip('link', 'add', own, 'type', 'veth', 'peer', 'name', 'tests', 'netns', String(switchPid));
    await inside(switchPid, 'link', 'set', 'tests', 'master', 'bridge', 'up');
    await ip('address', 'add', `${prefix}.1/24`, 'dev', own);
    await ip('link', 'set', own, 'up');

    const addMachine = async () => {
      const pid = await hold();
      machines.push(pid);
      const address = nextAddress();
      await inside(
        switchPid,
        'link',
        'add',
        `to-${pid}`,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        String(pid),
      );
      await inside(switchPid, 'link', 'set', `to-${pid}`, 'master', 'bridge', 'up');
      await inside(pid, 'link', 'set', 'lo', 'up');
      await inside(pid, 'address', 'add', `${address}/24`, 'dev', 'eth0');
      await inside(pid, 'link', 'set', 'eth0', 'up');
      // As on every host that may have to take a virtual address over.
      await enter(pid, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind');
      return {
        address,
        network: `ns:/proc/${pid}/ns/net`,
        enter: ['nsenter', `--net=/proc/${pid}/ns/net`],
        take: async (more: string) => {
          await inside(pid, 'address', 'add', `${more}/24`, 'dev', 'eth0');
          await forget(more);
        },
        giveUp: (more: string) => inside(pid, 'address', 'del', `${more}/24`, 'dev', 'eth0'),
      };
    };
    return {
      address: `${prefix}.1`,
      freeAddress: nextAddress,
      addMachine,
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function holdNamespace(): Promise<RunningProcess> {
  const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin' } = process.env;
  return startProcess({
    name: 'network namespace',
    command: 'unshare',
    args: ['--net', 'sh', '-c', 'echo held && exec sleep infinity'],
    env: { PATH },
    ready: (output) => output.includes('held'),
  });
}

/** A /24 of those for tests of networks (RFC 2544) that no interface of this machine is in; docker/lab has another one. */
function freePrefix(): string {
  const taken = Object.values(networkInterfaces())
    .flat()
    .map((own) => own?.address ?? '');
  for (;;) {
    const prefix = `198.19.${randomInt(256)}`;
    if (!taken.some((address) => address.startsWith(`${prefix}.`))) return prefix;
  }
}

async function ip(...args: string[]): Promise<void> {
  const { command, env } = ipCommand();
  await run(command, args, { env: { ...process.env, ...env } });
}

const inside = (pid: number, ...args: string[]): Promise<void> => {
  const { command, env } = ipCommand();
  return enter(
    pid,
    'env',
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    command,
    ...args,
  );
};

/** Runs a command in the network namespace of the process. */
async function enter(pid: number, ...command: string[]): Promise<void> {
  await run('nsenter', [`--net=/proc/${pid}/ns/net`, ...command]);
}
