import { HostError } from '../domain/host-error.ts';
import type { WorkersObservation } from '../domain/observation.ts';
import type { Clock } from '../ports/clock.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import {
  complaintsIn,
  type ProcessList,
  readProcesses,
  readRefusal,
  readReload,
  readStopping,
} from './answers.ts';
import { HaproxySocket } from './haproxy-socket.ts';
import type { RuntimeApiOptions } from './runtime-api.ts';

/** An old worker that lives answers at once; one that is frozen must not hold up a look at the host. */
const OLD_WORKER_WITHIN_MS = 2_000;
/** From the moment a new worker is listed until the old one has taken its signal. */
const HANDING_OVER_MS = 300;

/** HAProxy's master CLI (management.txt section 9.4): what its worker cannot tell. Throws `ERR_HAPROXY_*`. */
export class MasterCli {
  readonly #socket: HaproxySocket;
  readonly #clock: Clock;

  constructor({ host, connect, clock }: Omit<RuntimeApiOptions, 'socket'>) {
    this.#socket = new HaproxySocket(host, connect);
    this.#clock = clock;
  }

  async processes({ signal }: { signal: AbortSignal }): Promise<ProcessList> {
    const step = 'list the processes of HAProxy';
    const answer = await this.#socket.send(step, 'show proc\nquit\n', { signal });
    const processes = readProcesses(answer);
    if (processes !== undefined) return processes;
    const { code, ...refusal } = readRefusal(answer.trimEnd());
    throw new HostError(code, { host: this.#socket.host, step, ...refusal });
  }

  /** How many workers there are, and which old ones take new connections still. */
  async workers({ signal }: { signal: AbortSignal }): Promise<WorkersObservation> {
    const first = await this.#look({ signal });
    if (first.listening.length === 0) return first;
    // A reload may be under way at this very moment.
    await this.#clock.sleep(HANDING_OVER_MS, { signal });
    return this.#look({ signal });
  }

  /** Asks for a seamless reload. Since 2.7 it answers when the new worker is there, or has failed. */
  async reload({
    signal,
    mandate,
    timeoutMs,
  }: EffectOptions & { timeoutMs: number }): Promise<ReturnType<typeof readReload>> {
    const step = 'reload HAProxy';
    const options = { signal, mandate, timeoutMs };
    return readReload(await this.#socket.send(step, 'reload\n', options));
  }

  /** What the new worker of the last reload complained of; undefined before HAProxy 2.7, which does not tell. */
  async complaints({ signal }: { signal: AbortSignal }): Promise<string | undefined> {
    const answer = await this.#socket.send('ask why', 'show startup-logs\nquit\n', { signal });
    return answer.includes('[ALERT]') ? complaintsIn(answer) : undefined;
  }

  async #look({ signal }: { signal: AbortSignal }): Promise<WorkersObservation> {
    const { workers, oldWorkers } = await this.processes({ signal });
    const listening: number[] = [];
    for (const pid of oldWorkers) if (!(await this.#isLeaving(pid, { signal }))) listening.push(pid);
    return { current: workers.length, old: oldWorkers.length, listening };
  }

  /** False also for one that does not answer: it has its sockets still. */
  async #isLeaving(pid: number, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const timeoutMs = OLD_WORKER_WITHIN_MS;
    try {
      const request = `@!${pid} show info\nquit\n`;
      const answer = await this.#socket.send(`ask old worker ${pid}`, request, { signal, timeoutMs });
      // One that ended since it was listed is no worker any more: the master says something else then.
      return readStopping(answer) ?? true;
    } catch (error) {
      if (error instanceof HostError && error.code === 'ERR_HAPROXY_SOCKET') return false;
      throw error;
    }
  }
}
