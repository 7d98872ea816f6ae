import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type HostOptions, startHost, type TestHost } from './host.ts';
import { scratchDirectory } from './scratch.ts';
import { createIdentity } from './sshd.ts';

export interface TestFleet extends AsyncDisposable {
  readonly hosts: readonly TestHost[];
  readonly user: string;
  /** The one key that logs in everywhere. */
  readonly identityFile: string;
  /** Pins every host. */
  readonly knownHostsFile: string;
  close(): Promise<void>;
}

/**
 * Hosts that a pool can list: one identity, one known_hosts. `optionsOf` gives each host its own options; give
 * all of them one `haproxy.httpPort` if a CA is to validate through them.
 */
export async function startFleet(
  count: number,
  optionsOf: (index: number) => HostOptions = () => ({}),
): Promise<TestFleet> {
  const scratch = await scratchDirectory();
  const hosts: TestHost[] = [];
  const close = async () => {
    await Promise.all(hosts.map((host) => host.close()));
    await scratch.remove();
  };
  try {
    const identity = await createIdentity(join(scratch.path, 'identity'));
    const begun = Array.from({ length: count }, (_, index) => {
      const options = optionsOf(index);
      return startHost({ ...options, sshd: { identity, ...options.sshd } });
    });
    const settled = await Promise.allSettled(begun);
    hosts.push(...settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
    for (const result of settled) if (result.status === 'rejected') throw result.reason;
    const knownHostsFile = join(scratch.path, 'known_hosts');
    await writeFile(knownHostsFile, hosts.map(({ sshd }) => sshd.knownHosts).join(''));
    const user = hosts[0]?.sshd.user ?? '';
    const { identityFile } = identity;
    return { hosts, user, identityFile, knownHostsFile, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
