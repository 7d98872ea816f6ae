import type { Duplex } from 'node:stream';
import type { SimulatedFile, SimulatedFiles } from './files.ts';

/** draft-ietf-secsh-filexfer-02, section 3 */
const TYPE = {
  init: 1,
  version: 2,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  setstat: 9,
  opendir: 11,
  readdir: 12,
  remove: 13,
  stat: 17,
  status: 101,
  handle: 102,
  data: 103,
  name: 104,
  attrs: 105,
  extended: 200,
} as const;

/** Section 7 */
const STATUS = { ok: 0, eof: 1, noSuchFile: 2, failure: 4, unsupported: 8 } as const;
/** Section 5, `flags` of attributes; a size, uid and gid, permissions, times. */
const ATTRIBUTES = { size: 1, owner: 2, permissions: 4, times: 8 } as const;
/** Section 6.3, `pflags` */
const CREATE = 0x08;

const EXTENSIONS = ['posix-rename@openssh.com', 'hardlink@openssh.com', 'fsync@openssh.com'];
const REGULAR = 0o100_000;
const DIRECTORY = 0o040_755;

type Handle = { readonly file: SimulatedFile } | { names: readonly string[] | undefined };

/** Serves what kacme uses of OpenSSH's SFTP server, over a channel, from memory. */
export function serveSftp(channel: Duplex, files: SimulatedFiles): void {
  const handles = new Map<number, Handle>();
  let nextHandle = 0;
  let rest: Buffer = Buffer.alloc(0);

  const answer = (type: number, id: number, ...parts: readonly Buffer[]) =>
    packet(type, uint32(id), ...parts);
  const status = (id: number, code: number) =>
    answer(TYPE.status, id, uint32(code), text(code === STATUS.ok ? 'Success' : 'Failure'), text(''));
  const done = (id: number, succeeded: boolean, otherwise: number = STATUS.failure) =>
    status(id, succeeded ? STATUS.ok : otherwise);
  const give = (id: number, handle: Handle) => {
    nextHandle += 1;
    handles.set(nextHandle, handle);
    return answer(TYPE.handle, id, data(uint32(nextHandle)));
  };

  const serve = (type: number, id: number, fields: Fields): Buffer => {
    switch (type) {
      case TYPE.open: {
        const [path, flags] = [fields.text(), fields.uint32()];
        if (path === files.directory) return give(id, { names: undefined });
        const creating = (flags & CREATE) !== 0;
        const file = creating ? files.create(path, fields.mode() ?? 0o644) : files.get(path);
        if (file !== undefined) return give(id, { file });
        return status(id, creating ? STATUS.failure : STATUS.noSuchFile);
      }
      case TYPE.close:
        return done(id, handles.delete(fields.handle()));
      case TYPE.read: {
        const handle = handles.get(fields.handle());
        const [offset, length] = [fields.uint64(), fields.uint32()];
        if (handle === undefined || !('file' in handle)) return status(id, STATUS.failure);
        const { content } = handle.file;
        if (offset >= content.length) return status(id, STATUS.eof);
        return answer(TYPE.data, id, data(content.subarray(offset, offset + length)));
      }
      case TYPE.write: {
        const handle = handles.get(fields.handle());
        const offset = fields.uint64();
        if (handle === undefined || !('file' in handle)) return status(id, STATUS.failure);
        files.write(handle.file, offset, fields.data());
        return status(id, STATUS.ok);
      }
      case TYPE.opendir:
        return give(id, { names: files.names() });
      case TYPE.readdir: {
        const handle = handles.get(fields.handle());
        if (handle === undefined || 'file' in handle || handle.names === undefined)
          return status(id, STATUS.eof);
        const { names } = handle;
        handle.names = undefined;
        const entries = names.flatMap((name) => [text(name), text(name), uint32(0)]);
        return answer(TYPE.name, id, uint32(names.length), ...entries);
      }
      case TYPE.remove:
        return done(id, files.remove(fields.text()), STATUS.noSuchFile);
      case TYPE.setstat: {
        const file = files.get(fields.text());
        const mode = fields.mode();
        if (file !== undefined && mode !== undefined) file.mode = mode & 0o7777;
        return done(id, file !== undefined, STATUS.noSuchFile);
      }
      case TYPE.stat: {
        const path = fields.text();
        const file = files.get(path);
        if (path === files.directory) return answer(TYPE.attrs, id, attributes(0, DIRECTORY, 0));
        if (file === undefined) return status(id, STATUS.noSuchFile);
        return answer(TYPE.attrs, id, attributes(file.content.length, REGULAR | file.mode, file.mtime));
      }
      case TYPE.extended: {
        const name = fields.text();
        if (name === 'fsync@openssh.com') return done(id, handles.has(fields.handle()));
        const [from, to] = [fields.text(), fields.text()];
        if (name === 'hardlink@openssh.com') return done(id, files.link(from, to));
        if (name === 'posix-rename@openssh.com') return done(id, files.rename(from, to));
        return status(id, STATUS.unsupported);
      }
      default:
        return status(id, STATUS.unsupported);
    }
  };

  channel.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0);
      const type = rest.readUInt8(4);
      const fields = new Fields(rest.subarray(5, end));
      rest = rest.subarray(end);
      if (type === TYPE.init) {
        const pairs = EXTENSIONS.flatMap((name) => [text(name), text('1')]);
        channel.write(packet(TYPE.version, uint32(3), ...pairs));
      } else channel.write(serve(type, fields.uint32(), fields));
    }
  });
}

/** The fields of a request, in order. */
class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  uint32(): number {
    this.#at += 4;
    return this.#bytes.readUInt32BE(this.#at - 4);
  }

  uint64(): number {
    return this.uint32() * 2 ** 32 + this.uint32();
  }

  data(): Buffer {
    const length = this.uint32();
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  text(): string {
    return this.data().toString('utf8');
  }

  handle(): number {
    return this.data().readUInt32BE(0);
  }

  /** Of attributes, whose other fields are passed over. */
  mode(): number | undefined {
    const flags = this.uint32();
    if ((flags & ATTRIBUTES.size) !== 0) this.uint64();
    if ((flags & ATTRIBUTES.owner) !== 0) this.uint64();
    return (flags & ATTRIBUTES.permissions) === 0 ? undefined : this.uint32();
  }
}

function attributes(size: number, mode: number, mtime: number): Buffer {
  const { uid, gid } = { uid: 99, gid: 99 };
  const flags = ATTRIBUTES.size | ATTRIBUTES.owner | ATTRIBUTES.permissions | ATTRIBUTES.times;
  return Buffer.concat([flags, 0, size, uid, gid, mode, mtime, mtime].map(uint32));
}

function packet(type: number, ...parts: readonly Buffer[]): Buffer {
  const bytes = parts.reduce((sum, part) => sum + part.length, 1);
  return Buffer.concat([uint32(bytes), Buffer.of(type), ...parts]);
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

const data = (bytes: Buffer): Buffer => Buffer.concat([uint32(bytes.length), bytes]);
const text = (value: string): Buffer => data(Buffer.from(value));
