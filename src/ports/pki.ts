import type { KeyType } from '../domain/model.ts';

/** Makes keys, self-signed certificates and requests. Nothing leaves the process. */
export interface Pki {
  /** PKCS#8 PEM, generated off the event loop. */
  generateKey(type: KeyType): Promise<string>;
  /** An X.509 v3 certificate (PEM) for `identifiers` as subjectAltName, by a key of any type that `generateKey` makes. */
  selfSign(request: {
    keyPem: string;
    identifiers: readonly string[];
    notBefore: Date;
    notAfter: Date;
  }): Promise<string>;
}
