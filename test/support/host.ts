import { Cleanup } from './cleanup.ts';
import { type HaproxyOptions, haproxyPaths, startHaproxy, type TestHaproxy } from './haproxy.ts';
import { freePort, loopbackAddress } from './net.ts';
import { labAccount } from './programs.ts';
import { scratchDirectory } from './scratch.ts';
import { type SshdOptions, startSshd, type TestSshd } from './sshd.ts';

export interface HostOptions {
  readonly address?: string;
  /**
   * Where HAProxy and sshd see the host's directory: give several hosts the same, and one pool can list them
   * (needs `canHaveViews`). Their paths in it: `haproxyPaths`.
   */
  readonly seenAt?: string | undefined;
  /** `started: false` and no `bundlePem`: a host before its first deployment. */
  readonly haproxy?: Omit<HaproxyOptions, 'address' | 'directory'>;
  /** The hardened account may reach the stats and the master socket. */
  readonly sshd?: Omit<SshdOptions, 'address' | 'directory'>;
}

/** One HAProxy and one sshd of the same unprivileged account, on an address of their own. */
export interface TestHost extends AsyncDisposable {
  readonly address: string;
  /** Of HAProxy and sshd both. */
  readonly directory: string;
  readonly haproxy: TestHaproxy;
  readonly sshd: TestSshd;
  /** The bundle's path, the same for HAProxy and for SSH unless `seenAt` is given. */
  readonly certPath: string;
  /** Ends both and removes everything. */
  close(): Promise<void>;
}

export async function startHost(options: HostOptions = {}): Promise<TestHost> {
  const scratch = await scratchDirectory(labAccount());
  const address = options.address ?? loopbackAddress();
  const cleanup = new Cleanup();
  cleanup.add(scratch.remove);
  const { close } = cleanup;
  try {
    const { seenAt } = options;
    const directory = scratch.path;
    const haproxy = await startHaproxy({ ...options.haproxy, address, directory, seenAt });
    cleanup.add(haproxy.close);
    const { socketPath, masterSocketPath } = haproxyPaths(seenAt ?? directory);
    const port = options.sshd?.port ?? (await freePort(address));
    const sshd = await startSshd({
      forward: [socketPath, masterSocketPath],
      ...options.sshd,
      port,
      address,
      directory,
      seenAt,
    });
    cleanup.add(sshd.close);
    const { certPath } = haproxy;
    return { address, directory, haproxy, sshd, certPath, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
