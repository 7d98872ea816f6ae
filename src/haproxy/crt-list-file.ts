import type { CrtListSpec } from '../domain/model.ts';
import type { HostSession } from '../ports/host-session.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { pathsInCrtList } from './answers.ts';
import type { UndoOptions } from './checkpoint.ts';
import { FileReplacement } from './file-replacement.ts';
import { readHostFile } from './host-file.ts';

/** A list names files and holds no secret. */
const NEW_LIST_MODE = 0o644;

/** The line in a crt-list's file that names a bundle, without which HAProxy's next start or reload would forget it. */
export class CrtListFile {
  readonly path: string;
  readonly #host: string;
  readonly #bundlePath: string;
  #replacement: FileReplacement | undefined;
  #content = '';

  /** `bundlePath` is what HAProxy knows the bundle by. */
  constructor(host: string, { file }: CrtListSpec, bundlePath: string) {
    this.#host = host;
    this.path = file;
    this.#bundlePath = bundlePath;
  }

  async look(session: HostSession, options: { signal: AbortSignal }): Promise<void> {
    const present = await readHostFile(session, this.#host, this.path, options);
    const text = present?.content.toString('utf8') ?? '';
    if (pathsInCrtList(text).includes(this.#bundlePath)) return;
    this.#content = `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${this.#bundlePath}\n`;
    this.#replacement = new FileReplacement(this.#host, this.path, {
      mode: present?.stat.mode ?? NEW_LIST_MODE,
      owner: undefined,
      group: undefined,
    });
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
