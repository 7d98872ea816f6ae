/** A file of a simulated host; two names of one file are two entries with the same object, as hard links are. */
export interface SimulatedFile {
  content: Buffer;
  mode: number;
  /** Seconds since 1970, as SFTP version 3 has them. */
  mtime: number;
}

/** The files of one directory of a simulated host, in memory. */
export class SimulatedFiles {
  readonly directory: string;
  readonly #files = new Map<string, SimulatedFile>();

  constructor(directory: string) {
    this.directory = directory;
  }

  get(path: string): SimulatedFile | undefined {
    return this.#files.get(path);
  }

  /** Undefined when something is there already. */
  create(path: string, mode: number): SimulatedFile | undefined {
    if (this.#files.has(path)) return undefined;
    const file = { content: Buffer.alloc(0), mode, mtime: nowSeconds() };
    this.#files.set(path, file);
    return file;
  }

  write(file: SimulatedFile, offset: number, data: Buffer): void {
    const size = Math.max(file.content.length, offset + data.length);
    const content = Buffer.alloc(size);
    file.content.copy(content);
    data.copy(content, offset);
    file.content = content;
    file.mtime = nowSeconds();
  }

  /** A second name of the same file; false when the first is missing or the second is taken. */
  link(existing: string, path: string): boolean {
    const file = this.#files.get(existing);
    if (file === undefined || this.#files.has(path)) return false;
    this.#files.set(path, file);
    return true;
  }

  /** As rename(2): replaces what is there, and does nothing when both are the same file. */
  rename(from: string, to: string): boolean {
    const file = this.#files.get(from);
    if (file === undefined) return false;
    if (this.#files.get(to) !== file) {
      this.#files.set(to, file);
      this.#files.delete(from);
    }
    return true;
  }

  remove(path: string): boolean {
    return this.#files.delete(path);
  }

  names(): readonly string[] {
    return Array.from(this.#files.keys(), (path) => path.slice(this.directory.length + 1));
  }
}

const nowSeconds = (): number => Math.floor(Date.now() / 1_000);
