import type { HostSession, OpenHostSession } from '../ports/host-session.ts';
import type { SshDependencies } from './connect.ts';
import { KnownHostsFiles } from './known-hosts-file.ts';
import { LocalSession } from './local-session.ts';
import { LoginTurns } from './login-turns.ts';

/** Opens sessions to hosts over SSH, and to this machine for a pool that is local. */
export function openHostSession(dependencies: SshDependencies): OpenHostSession {
  const surroundings = {
    ...dependencies,
    knownHostsFiles: new KnownHostsFiles(),
    turns: new LoginTurns(),
  };
  return async (pool, host, { signal }): Promise<HostSession> => {
    signal.throwIfAborted();
    const { ssh } = pool;
    if (ssh === undefined) return new LocalSession(pool, host);
    // Loaded when a host is first reached: ssh2 costs as much at start as the store and the servers together.
    const { openSshSession } = await import('./open-ssh-session.ts');
    return openSshSession({ pool, host, ssh }, surroundings, { signal });
  };
}
