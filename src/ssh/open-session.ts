import type { HostSession, OpenHostSession } from '../ports/host-session.ts';
import type { SshDependencies } from './connect.ts';
import { KnownHostsFiles } from './known-hosts-file.ts';
import { LocalSession } from './local-session.ts';
import { LoginTurns } from './login-turns.ts';
import type { SshSessions } from './open-ssh-session.ts';

/** Opens sessions to hosts over SSH, and to this machine for a pool that is local. */
export function openHostSession(dependencies: SshDependencies): OpenHostSession {
  const surroundings = {
    ...dependencies,
    knownHostsFiles: new KnownHostsFiles(),
    turns: new LoginTurns(),
  };
  let sessions: SshSessions | undefined;
  return async (pool, host, { signal }): Promise<HostSession> => {
    signal.throwIfAborted();
    const { ssh } = pool;
    if (ssh === undefined) return new LocalSession(pool, host);
    // Loaded when a host is first reached: ssh2 costs as much at start as the store and the servers together.
    const { SshSessions } = await import('./open-ssh-session.ts');
    sessions ??= new SshSessions(surroundings);
    return sessions.open({ pool, host, ssh }, { signal });
  };
}
