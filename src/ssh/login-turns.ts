import { Lane } from '../domain/lane.ts';

/**
 * sshd begins to drop connections at random when 10 are not logged in yet (MaxStartups 10:30:100), and others log in
 * there too.
 */
const PER_SSHD = 4;
/**
 * A key exchange takes 5 ms of one core here and as long on the host. All of a thousand hosts side by side would each
 * take as long as all together, and run into `connectTimeout`.
 */
const AT_ONCE = 64;

interface Sshd {
  readonly lane: Lane;
  /** Those that hold it or wait for it. */
  users: number;
}

/** Bounds how many logins are under way, to one sshd and in all. */
export class LoginTurns {
  readonly #logins = new Lane(AT_ONCE);
  readonly #sshds = new Map<string, Sshd>();

  /** `sshd` tells one from another, such as `10.0.0.11:22`. Rejects with `signal.reason` when aborted before its turn. */
  async atSshd<T>(name: string, task: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    const sshd = this.#sshds.get(name) ?? { lane: new Lane(PER_SSHD), users: 0 };
    this.#sshds.set(name, sshd);
    sshd.users += 1;
    try {
      return await sshd.lane.run(task, options);
    } finally {
      sshd.users -= 1;
      if (sshd.users === 0) this.#sshds.delete(name);
    }
  }

  /** For the part that costs: a host that is down, and takes all of its time, must not hold others up. */
  logIn<T>(task: () => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    return this.#logins.run(task, options);
  }
}
