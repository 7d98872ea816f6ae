import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { loopbackAddress } from './net.ts';

export interface DnsQuestion {
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'CAA' | 'CNAME' | 'SRV' | `TYPE${number}`;
}

/** One resource record (RFC 1035 section 4.1.3); without a name, that of the question. */
export interface DnsRecord {
  readonly name?: string;
  readonly type: keyof typeof TYPES;
  readonly data: Buffer;
}

export interface DnsReply {
  /** RFC 1035 section 4.1.1: 0 no error, 1 format, 2 server failure, 3 no such name, 5 refused. */
  readonly code?: number;
  readonly records?: readonly DnsRecord[];
}

export interface FaultyDns extends AsyncDisposable {
  readonly listen: { readonly host: string; readonly port: number };
  readonly asked: readonly DnsQuestion[];
  close(): Promise<void>;
}

const TYPES = { A: 1, CNAME: 5, AAAA: 28, SRV: 33, CAA: 257 } as const;
const HEADER_BYTES = 12;

/** A name server (UDP) that answers as it is told; `undefined` keeps silent. */
export async function startFaultyDns(
  answer: (question: DnsQuestion) => DnsReply | undefined,
): Promise<FaultyDns> {
  const address = loopbackAddress();
  const socket = createSocket('udp4');
  const asked: DnsQuestion[] = [];
  socket.on('message', (query, { port, address: from }) => {
    const { question, end } = readQuestion(query);
    asked.push(question);
    const reply = answer(question);
    if (reply !== undefined) socket.send(renderReply(query.subarray(0, end), reply), port, from);
  });
  socket.bind(0, address);
  await once(socket, 'listening');
  const close = async () => {
    socket.close();
    await once(socket, 'close');
  };
  return {
    listen: { host: address, port: socket.address().port },
    asked,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The data of a CAA record (RFC 8659 section 4.1). */
export const caaData = (flags: number, tag: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([flags, tag.length]), Buffer.from(tag + value, 'latin1')]);

export const addressData = (ipv4: string): Buffer => Buffer.from(ipv4.split('.').map(Number));

export const nameData = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0]),
  ]);

/** The data of an SRV record (RFC 2782), priority and weight 0. */
export const serviceData = (target: string, port: number): Buffer =>
  Buffer.concat([Buffer.from([0, 0, 0, 0, port >> 8, port & 0xff]), nameData(target)]);

function readQuestion(query: Buffer): { question: DnsQuestion; end: number } {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const number = query.readUInt16BE(at + 1);
  const [type] = Object.entries(TYPES).find(([, value]) => value === number) ?? [];
  const name = labels.join('.').toLowerCase();
  return {
    question: { name, type: (type as DnsQuestion['type'] | undefined) ?? `TYPE${number}` },
    end: at + 5,
  };
}

function renderReply(asked: Buffer, { code = 0, records = [] }: DnsReply): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  asked.copy(header, 0, 0, 2);
  // A response, recursion desired and available.
  header.writeUInt16BE(0x81_80 | code, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  return Buffer.concat([header, asked.subarray(HEADER_BYTES), ...records.map(renderRecord)]);
}

function renderRecord({ name, type, data }: DnsRecord): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(TYPES[type], 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt16BE(data.length, 8);
  // A pointer to the name of the question (RFC 1035 section 4.1.4).
  const owner = name === undefined ? Buffer.from([0xc0, HEADER_BYTES]) : nameData(name);
  return Buffer.concat([owner, fixed, data]);
}
