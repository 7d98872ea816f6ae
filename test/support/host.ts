import { type HaproxyOptions, startHaproxy, type TestHaproxy } from './haproxy.ts';
import { freePort, loopbackAddress } from './net.ts';
import { labAccount } from './programs.ts';
import { scratchDirectory } from './scratch.ts';
import { type SshdOptions, startSshd, type TestSshd } from './sshd.ts';

export interface HostOptions {
  readonly address?: string;
  /** `started: false` and no `bundlePem`: a host before its first deployment. */
  readonly haproxy?: Omit<HaproxyOptions, 'address' | 'directory'>;
  /** The hardened account may reach the stats and the master socket. */
  readonly sshd?: Omit<SshdOptions, 'address' | 'directory'>;
}

/** One HAProxy and one sshd of the same unprivileged account, on an address of their own. */
export interface TestHost extends AsyncDisposable {
  readonly address: string;
  readonly haproxy: TestHaproxy;
  readonly sshd: TestSshd;
  /** The bundle's path, the same for HAProxy and for SSH. */
  readonly certPath: string;
  /** Ends both and removes everything. */
  close(): Promise<void>;
}

export async function startHost(options: HostOptions = {}): Promise<TestHost> {
  const scratch = await scratchDirectory(labAccount());
  const address = options.address ?? loopbackAddress();
  const cleanup = [scratch.remove];
  const close = async () => {
    for (let step = cleanup.pop(); step !== undefined; step = cleanup.pop()) await step();
  };
  try {
    const haproxy = await startHaproxy({ ...options.haproxy, address, directory: scratch.path });
    cleanup.push(haproxy.close);
    const sockets = [haproxy.socketPath, haproxy.masterSocketPath];
    const port = options.sshd?.port ?? (await freePort(address));
    const sshd = await startSshd({
      forward: sockets,
      ...options.sshd,
      port,
      address,
      directory: scratch.path,
    });
    cleanup.push(sshd.close);
    return { address, haproxy, sshd, certPath: haproxy.certPath, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
