import { HostError } from '../domain/host-error.ts';
import type { Clock, Random } from '../ports/clock.ts';
import type { HostSession } from '../ports/host-session.ts';
import { SshConnection, type SshCredentials } from './connection.ts';
import type { SshTarget } from './connection-errors.ts';
import { type ReadSecret, readIdentity } from './identity.ts';
import type { KnownHosts } from './known-hosts.ts';
import { SshSession } from './ssh-session.ts';

export interface SshDependencies {
  readonly readSecret: ReadSecret;
  readonly clock: Clock;
  readonly random: Random;
}

/** sshd's MaxStartups drops connections at random under pressure: several more attempts, further and further apart. */
const ATTEMPTS = 10;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 800;

/** Reads the identity anew: a key that the operator replaced counts at the next connection. */
export async function openSshSession(
  target: SshTarget,
  knownHosts: KnownHosts,
  dependencies: SshDependencies,
  { signal }: { signal: AbortSignal },
): Promise<HostSession> {
  const identity = await readIdentity(target.ssh.identity, dependencies.readSecret, { signal });
  return new SshSession(await connect(target, { knownHosts, identity }, dependencies, { signal }));
}

async function connect(
  target: SshTarget,
  credentials: SshCredentials,
  { clock, random }: SshDependencies,
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
