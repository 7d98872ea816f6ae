import { isDeepStrictEqual } from 'node:util';
import { idOf, type Target } from './host-journal.ts';
import { Wake } from './wake.ts';

/** What keeps one host in step, for as long as it is present. */
export interface HostLoop {
  /** As it is now: a host may move to another address. */
  target: Target;
  readonly wake: Wake;
  /** New bundles that it was woken for and has not looked at yet. */
  news: News;
  gone: boolean;
}

/** Certificates with a new bundle, since when (monotonic). */
export interface News {
  readonly awaited: readonly string[];
  readonly sinceMs: number;
}

const NO_NEWS: News = { awaited: [], sinceMs: Number.POSITIVE_INFINITY };

/** One loop for each present host; hosts come and go without a word to the others. */
export class HostLoops {
  readonly #loops = new Map<string, HostLoop>();
  readonly #running = new Set<Promise<void>>();
  readonly #run: (loop: HostLoop) => Promise<void>;

  /** `run` ends soon after its loop is `gone`, when its present step has. */
  constructor(run: (loop: HostLoop) => Promise<void>) {
    this.#run = run;
  }

  follow(targets: readonly Target[]): void {
    const present = new Map(targets.map((target) => [idOf(target), target]));
    for (const [id, loop] of this.#loops) {
      if (present.has(id)) continue;
      this.#loops.delete(id);
      loop.gone = true;
      loop.wake.wake();
    }
    for (const [id, target] of present) {
      const loop = this.#loops.get(id);
      if (loop === undefined) this.#start(id, { target, wake: new Wake(), news: NO_NEWS, gone: false });
      else if (!isDeepStrictEqual(loop.target.host, target.host)) {
        loop.target = target;
        loop.wake.wake();
      }
    }
  }

  /** A new bundle is there: its hosts look at once. */
  wake(certificate: string, nowMs: number): void {
    for (const loop of this.#loops.values()) {
      if (!loop.target.deployments.some((deployment) => deployment.certificate === certificate)) continue;
      loop.news = { awaited: [...new Set([...loop.news.awaited, certificate])], sinceMs: nowMs };
      loop.wake.wake();
    }
  }

  /** Resolves when every loop has ended, those of hosts that are gone included. */
  async ended(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #start(id: string, loop: HostLoop): void {
    this.#loops.set(id, loop);
    const running = this.#run(loop).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}

/** What the next look is for: from now on it counts as looked at. */
export function takeNews(loop: HostLoop): News {
  const { news } = loop;
  loop.news = NO_NEWS;
  return news;
}
