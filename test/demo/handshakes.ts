import { once } from 'node:events';
import { connect } from 'node:tls';
import { Unexpected } from './unexpected.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface Leaf {
  /** SHA-256 of its DER, lower-case hex. */
  readonly fingerprint256: string;
  readonly notAfter: Date;
}

export interface Expected {
  /** PEM of the root that must have signed it; undefined: it must be self-signed. */
  readonly root: string | undefined;
}

const HANDSHAKES_EACH = 4;

/** The demo's own judgement of what hosts serve: nothing here is kacme's word. */
export class Handshakes {
  #count = 0;

  /** Done so far and found right. */
  get count(): number {
    return this.#count;
  }

  /** Several handshakes with each host for each name; all must present one leaf. Throws `Unexpected`. */
  async sameLeaf(hosts: readonly Endpoint[], names: readonly string[], expected: Expected): Promise<Leaf> {
    const leaves = await Promise.all(
      hosts.map(async (host) => {
        const presented: Leaf[] = [];
        for (const name of names) {
          for (let i = 0; i < HANDSHAKES_EACH; i++) presented.push(await shakeHands(host, name, expected));
        }
        return presented;
      }),
    );
    const [first, ...others] = leaves.flat();
    if (first === undefined) throw new Unexpected('no host to ask');
    if (others.some(({ fingerprint256 }) => fingerprint256 !== first.fingerprint256))
      throw new Unexpected(`the hosts present different certificates for ${names.join(', ')}`);
    this.#count += others.length + 1;
    return first;
  }
}

async function shakeHands(
  { address, port }: Endpoint,
  servername: string,
  { root }: Expected,
): Promise<Leaf> {
  const where = `${address}:${port} for ${servername}`;
  const socket = connect({
    host: address,
    port,
    servername,
    // A self-signed one cannot be trusted: its name is checked all the same.
    ...(root === undefined ? { rejectUnauthorized: false } : { ca: root }),
  });
  try {
    socket.setTimeout(5_000, () => socket.destroy(new Error('no answer within 5 s')));
    await once(socket, 'secureConnect');
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) throw new Error('no certificate was presented');
    if (certificate.checkHost(servername) === undefined)
      throw new Error(`the certificate covers only ${certificate.subjectAltName}`);
    if (root === undefined && !certificate.verify(certificate.publicKey))
      throw new Error('the certificate is not self-signed');
    return {
      fingerprint256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
      notAfter: new Date(certificate.validTo),
    };
  } catch (error) {
    throw new Unexpected(`${where}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    socket.destroy();
  }
}
