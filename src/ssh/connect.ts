import { HostError } from '../domain/host-error.ts';
import type { Clock, Random } from '../ports/clock.ts';
import { ConnectBudget } from './connect-budget.ts';
import { SshConnection, type Way } from './connection.ts';
import type { Endpoint, SshTarget } from './connection-errors.ts';
import { endpointText } from './host-label.ts';
import { type ReadSecret, readIdentity } from './identity.ts';
import type { KnownHostsFiles } from './known-hosts-file.ts';
import type { LoginTurns } from './login-turns.ts';

export interface SshDependencies {
  readonly readSecret: ReadSecret;
  readonly clock: Clock;
  readonly random: Random;
}

/** What all connections of a process share. */
export interface SshSurroundings extends SshDependencies {
  readonly knownHostsFiles: KnownHostsFiles;
  readonly turns: LoginTurns;
}

/** sshd's MaxStartups drops connections at random under pressure: several more attempts, further and further apart. */
const ATTEMPTS = 10;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 800;

/**
 * Logs in. Identity and known_hosts are read anew: what the operator replaced counts at the next connection.
 */
export async function connectSsh(
  target: SshTarget,
  knownHostsFile: string,
  way: Way,
  surroundings: SshSurroundings,
  { signal }: { signal: AbortSignal },
): Promise<SshConnection> {
  const { readSecret, knownHostsFiles, turns } = surroundings;
  const knownHosts = await knownHostsFiles.read(knownHostsFile, { signal });
  const identity = await readIdentity(target.identity, readSecret, { signal });
  const turn = (logIn: () => Promise<void>) => turns.logIn(logIn, { signal });
  return attempt(
    target,
    way,
    surroundings,
    (budget) => SshConnection.open(target, { knownHosts, identity }, { way, budget, turn, signal }),
    { signal },
  );
}

/** Tries again, within `connectTimeoutMs` in all, where the server hung up before the handshake. */
export async function attempt<T>(
  target: Endpoint,
  way: Way,
  { clock, random, turns }: SshSurroundings,
  open: (budget: ConnectBudget) => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T> {
  const budget = new ConnectBudget(target.connectTimeoutMs, clock);
  const sshd = `${way.name} ${endpointText(target)}`;
  for (let attempt = 1; ; attempt++) {
    try {
      return await turns.atSshd(sshd, () => open(budget), { signal });
    } catch (error) {
      if (!(error instanceof HostError) || error.retry !== 'now') throw error;
      const delayMs = jittered(attempt, random);
      if (attempt === ATTEMPTS || delayMs >= budget.leftMs) throw gaveUp(error, attempt);
      await budget.spend(() => clock.sleep(delayMs, { signal }));
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
