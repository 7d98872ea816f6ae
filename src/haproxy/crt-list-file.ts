import type { CrtListSpec } from '../domain/model.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { pathsInCrtList } from './answers.ts';
import type { UndoOptions } from './checkpoint.ts';
import type { FileMemory } from './file-memory.ts';
import { FileReplacement } from './file-replacement.ts';

/** A list names files and holds no secret. */
const NEW_LIST_MODE = 0o644;

/** The line in a crt-list's file that names a bundle, without which HAProxy's next start or reload would forget it. */
export class CrtListFile {
  readonly path: string;
  readonly #host: string;
  readonly #bundlePath: string;
  readonly #memory: FileMemory;
  #replacement: FileReplacement | undefined;
  #content = '';

  /** `bundlePath` is what HAProxy knows the bundle by. */
  constructor(host: string, { file }: CrtListSpec, bundlePath: string, memory: FileMemory) {
    this.#host = host;
    this.#memory = memory;
    this.path = file;
    this.#bundlePath = bundlePath;
  }

  async look(session: HostSession, options: { tidy: boolean; signal: AbortSignal }): Promise<void> {
    const present = await this.#memory.read(session, this.#host, this.path, options);
    const text = present?.bytes.toString('utf8') ?? '';
    if (pathsInCrtList(text).includes(this.#bundlePath)) return;
    this.#content = `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${this.#bundlePath}\n`;
    const mode = present?.stat.mode ?? NEW_LIST_MODE;
    const ownership = { mode, owner: undefined, group: undefined };
    this.#replacement = new FileReplacement(this.#host, this.path, ownership, this.#memory);
    await this.#replacement.look(session, options);
  }

  async prepare(session: HostSession, options: EffectOptions): Promise<void> {
    await this.#replacement?.prepare(session, Buffer.from(this.#content), undefined, options);
  }

  async activate(session: HostSession, options: EffectOptions): Promise<void> {
    await this.#replacement?.activate(session, options);
  }

  async undo(options: UndoOptions): Promise<string | undefined> {
    return this.#replacement?.undo(options, { keepNew: false });
  }

  async forgetPrevious(session: HostSession, options: EffectOptions): Promise<void> {
    await this.#replacement?.forgetPrevious(session, options);
  }
}
