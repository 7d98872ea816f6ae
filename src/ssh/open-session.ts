import { HostError } from '../domain/host-error.ts';
import type { Clock, Random } from '../ports/clock.ts';
import type { HostSession, OpenHostSession } from '../ports/host-session.ts';
import { SshConnection, type SshCredentials } from './connection.ts';
import type { SshTarget } from './connection-errors.ts';
import { type ReadSecret, readIdentity } from './identity.ts';
import { KnownHostsFiles } from './known-hosts-file.ts';
import { LocalSession } from './local-session.ts';
import { SshSession } from './ssh-session.ts';

export interface OpenSessionDependencies {
  readonly readSecret: ReadSecret;
  readonly clock: Clock;
  readonly random: Random;
}

/** sshd's MaxStartups drops connections at random under pressure: several more attempts, further and further apart. */
const ATTEMPTS = 10;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 800;

/** Opens sessions to hosts over SSH, and to this machine for a pool that is local. */
export function openHostSession(dependencies: OpenSessionDependencies): OpenHostSession {
  const knownHostsFiles = new KnownHostsFiles();
  return async (pool, host, { signal }): Promise<HostSession> => {
    signal.throwIfAborted();
    const { ssh } = pool;
    if (ssh === undefined) return new LocalSession(pool, host);
    // Both are read anew each time: a key that the operator replaced counts at the next connection.
    const knownHosts = await knownHostsFiles.read(ssh.knownHosts, { signal });
    const identity = await readIdentity(ssh.identity, dependencies.readSecret, { signal });
    const target = { pool, host, ssh };
    return new SshSession(await connect(target, { knownHosts, identity }, dependencies, { signal }));
  };
}

async function connect(
  target: SshTarget,
  credentials: SshCredentials,
  { clock, random }: OpenSessionDependencies,
  { signal }: { signal: AbortSignal },
): Promise<SshConnection> {
  const deadlineMs = clock.monotonicMs() + target.ssh.connectTimeoutMs;
  for (let attempt = 1; ; attempt++) {
    try {
      return await SshConnection.open(target, credentials, { signal, clock, deadlineMs });
    } catch (error) {
      if (!(error instanceof HostError) || error.retry !== 'now') throw error;
      const delayMs = jittered(attempt, random);
      if (attempt === ATTEMPTS || clock.monotonicMs() + delayMs >= deadlineMs) throw gaveUp(error, attempt);
      await clock.sleep(delayMs, { signal });
    }
  }
}

const jittered = (attempt: number, random: Random): number =>
  Math.min(FIRST_DELAY_MS * 2 ** (attempt - 1), LONGEST_DELAY_MS) * (0.5 + random.uniform());

function gaveUp(error: HostError, attempts: number): HostError {
  const { code, host, step, reason, remedy } = error;
  return new HostError(code, {
    host,
    step,
    reason: `${reason} (${attempts} attempts)`,
    retry: 'later',
    remedy,
    cause: error,
  });
}
