import type { HostSession, OpenHostSession } from '../ports/host-session.ts';
import { KnownHostsFiles } from './known-hosts-file.ts';
import { LocalSession } from './local-session.ts';
import type { SshDependencies } from './open-ssh-session.ts';

/** Opens sessions to hosts over SSH, and to this machine for a pool that is local. */
export function openHostSession(dependencies: SshDependencies): OpenHostSession {
  const knownHostsFiles = new KnownHostsFiles();
  return async (pool, host, { signal }): Promise<HostSession> => {
    signal.throwIfAborted();
    const { ssh } = pool;
    if (ssh === undefined) return new LocalSession(pool, host);
    // Read anew each time, when it has changed: a key that the operator replaced counts at the next connection.
    const knownHosts = await knownHostsFiles.read(ssh.knownHosts, { signal });
    // Loaded when a host is first reached: ssh2 costs as much at start as the store and the servers together.
    const { openSshSession } = await import('./open-ssh-session.ts');
    return openSshSession({ pool, host, ssh }, knownHosts, dependencies, { signal });
  };
}
