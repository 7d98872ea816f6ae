import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { AccountChange, AccountRequest, AccountView } from '../domain/account.ts';
import { KacmeError, type KacmeErrorOptions } from '../domain/errors.ts';
import type { CheckReport } from '../domain/finding.ts';
import type { RenewalCalendar } from '../domain/renewal-calendar.ts';
import type { RevokeRequest } from '../domain/revocation.ts';
import type { AdoptionSummary, Progress, ReloadSummary, Status, Summary } from '../domain/status.ts';
import type { AdoptionRequest, CommandOptions, KacmeService } from '../ports/service.ts';
import { CONTROL_PATHS, parseMessage } from './control-protocol.ts';
import { probeSocket } from './control-socket.ts';

/**
 * The service that answers at `socketPath`; undefined when none does. Its errors arrive as `KacmeError`s with the code,
 * message, retry and remedy they had there. `status` and `reloadConfig` must be answered within `answerWithinMs`; long
 * commands must be taken on within it, and may then last.
 *
 * Throws `ERR_CONTROL_UNREACHABLE` when this user may not connect; so does every call when the service says nothing.
 */
export async function connectControl(
  socketPath: string,
  { signal, answerWithinMs = ANSWER_WITHIN_MS }: { signal: AbortSignal; answerWithinMs?: number },
): Promise<KacmeService | undefined> {
  const probe = await probeSocket(socketPath, { signal });
  if (probe === 'absent') return undefined;
  if (probe === 'forbidden') {
    throw unreachable(`connect to control socket ${socketPath}: permission denied`, {
      retry: 'never',
      remedy: 'run kacme as the user the service runs as, or as root',
    });
  }
  return new ControlClient(socketPath, answerWithinMs);
}

/** A service that is stopped still lets clients connect: the system queues them (listen(2)). */
const ANSWER_WITHIN_MS = 10_000;

interface Ask {
  readonly path: string;
  /** Whether the work may take long, once the service has shown that it lives. */
  readonly lasting: boolean;
  /** Undefined asks with GET. */
  readonly body?: Readonly<Record<string, unknown>>;
  readonly onProgress?: (progress: Progress) => void;
}

class ControlClient implements KacmeService {
  readonly #socketPath: string;
  readonly #answerWithinMs: number;

  constructor(socketPath: string, answerWithinMs: number) {
    this.#socketPath = socketPath;
    this.#answerWithinMs = answerWithinMs;
  }

  async status({ signal }: { signal: AbortSignal }): Promise<Status> {
    return (await this.#ask({ path: CONTROL_PATHS.status, lasting: false }, { signal })) as Status;
  }

  async check({ signal, onProgress }: CommandOptions): Promise<CheckReport> {
    return (await this.#ask(
      { path: CONTROL_PATHS.check, lasting: true, body: {}, onProgress },
      { signal },
    )) as CheckReport;
  }

  async calendar(request: { days: number }, { signal }: { signal: AbortSignal }): Promise<RenewalCalendar> {
    return (await this.#ask(
      { path: CONTROL_PATHS.calendar, lasting: true, body: request },
      { signal },
    )) as RenewalCalendar;
  }

  async accounts(
    request: { issuers: readonly string[] },
    { signal }: { signal: AbortSignal },
  ): Promise<readonly AccountView[]> {
    return (await this.#ask(
      { path: CONTROL_PATHS.accounts, lasting: true, body: request },
      { signal },
    )) as readonly AccountView[];
  }

  async changeAccount(
    request: AccountRequest,
    { signal, onProgress }: CommandOptions,
  ): Promise<AccountChange> {
    return (await this.#ask(
      { path: CONTROL_PATHS.account, lasting: true, body: { ...request }, onProgress },
      { signal },
    )) as AccountChange;
  }

  async bootstrap({ signal, onProgress }: CommandOptions): Promise<Summary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.bootstrap, lasting: true, body: {}, onProgress },
      { signal },
    )) as Summary;
  }

  async renew(
    request: { names: readonly string[]; force: boolean; dryRun: boolean },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.renew, lasting: true, body: request, onProgress },
      { signal },
    )) as Summary;
  }

  async reload(
    request: { pool: string | undefined; host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<ReloadSummary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.reload, lasting: true, body: request, onProgress },
      { signal },
    )) as ReloadSummary;
  }

  async rollback(
    request: { name: string; to: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.rollback, lasting: true, body: request, onProgress },
      { signal },
    )) as Summary;
  }

  async adopt(request: AdoptionRequest, { signal, onProgress }: CommandOptions): Promise<AdoptionSummary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.adopt, lasting: true, body: { ...request }, onProgress },
      { signal },
    )) as AdoptionSummary;
  }

  async revoke(request: RevokeRequest, { signal, onProgress }: CommandOptions): Promise<Summary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.revoke, lasting: true, body: { ...request }, onProgress },
      { signal },
    )) as Summary;
  }

  async distribute(
    request: { host: string | undefined },
    { signal, onProgress }: CommandOptions,
  ): Promise<Summary> {
    return (await this.#ask(
      { path: CONTROL_PATHS.distribute, lasting: true, body: request, onProgress },
      { signal },
    )) as Summary;
  }

  async reloadConfig({ signal }: { signal: AbortSignal }): Promise<void> {
    await this.#ask({ path: CONTROL_PATHS.reloadConfig, lasting: false, body: {} }, { signal });
  }

  /** The type of a result is not checked again: its path names the version of the protocol. */
  async #ask(ask: Ask, { signal }: { signal: AbortSignal }): Promise<unknown> {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(this.#silent(ask)), this.#answerWithinMs);
    const onSignOfLife = () => {
      if (ask.lasting) clearTimeout(timer);
    };
    try {
      const response = await this.#send(ask, onSignOfLife, {
        signal: AbortSignal.any([signal, patience.signal]),
      });
      for await (const line of linesOf(response)) {
        const message = parseMessage(line);
        if (message === undefined) throw this.#broke(ask, 'what answered is not kacme');
        if ('error' in message) {
          const { code, message: text, retry, remedy } = message.error;
          throw new KacmeError(code, text, { retry, ...(remedy === undefined ? {} : { remedy }) });
        }
        if ('result' in message) return message.result;
        ask.onProgress?.(message.progress);
      }
    } catch (error) {
      signal.throwIfAborted();
      patience.signal.throwIfAborted();
      if (error instanceof KacmeError) throw error;
      throw this.#broke(ask, error instanceof Error ? error.message : String(error), error);
    } finally {
      clearTimeout(timer);
    }
    throw this.#broke(ask, 'the connection ended before the result');
  }

  async #send(
    { path, body }: Ask,
    onSignOfLife: () => void,
    { signal }: { signal: AbortSignal },
  ): Promise<IncomingMessage> {
    const request = httpRequest({
      socketPath: this.#socketPath,
      path,
      method: body === undefined ? 'GET' : 'POST',
      headers: { host: 'kacme', 'content-type': 'application/json' },
      agent: false,
      signal,
    });
    // What fails after the answer began is reported here as well: whoever reads the answer has it already.
    request.on('error', () => undefined);
    request.on('information', onSignOfLife).on('response', onSignOfLife);
    request.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return response;
  }

  #silent({ path }: Ask): KacmeError {
    return unreachable(
      `${path} at control socket ${this.#socketPath}: the service takes connections, but gave no answer within ${this.#answerWithinMs} ms`,
      {
        retry: 'later',
        remedy:
          'see whether the service is stopped (SIGSTOP, a paused container) or the machine overloaded; if it hangs, restart it: it takes up what it had begun',
      },
    );
  }

  #broke({ path }: Ask, reason: string, cause?: unknown): KacmeError {
    return unreachable(`${path} at control socket ${this.#socketPath}: ${reason}`, {
      retry: 'later',
      remedy:
        'see in the log of the service whether it ended; what was done is kept, and `kacme status` tells how far it came',
      cause,
    });
  }
}

function unreachable(message: string, options: KacmeErrorOptions): KacmeError {
  return new KacmeError('ERR_CONTROL_UNREACHABLE', message, options);
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding('utf8');
  let rest = '';
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  if (rest !== '') yield rest;
}
