import { generateKeyPair, type KeyPairKeyObjectResult } from 'node:crypto';
import { promisify } from 'node:util';
import type { KeyType } from '../domain/model.ts';

const generate = promisify(generateKeyPair);

/** PKCS#8 PEM. RSA takes a tenth of a second and more, on a thread of the pool and not on the event loop. */
export async function generateKey(type: KeyType): Promise<string> {
  const { privateKey } = await generatePair(type);
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function generatePair(type: KeyType): Promise<KeyPairKeyObjectResult> {
  switch (type) {
    case 'ecdsa-p256':
      return generate('ec', { namedCurve: 'P-256' });
    case 'ecdsa-p384':
      return generate('ec', { namedCurve: 'P-384' });
    case 'rsa-2048':
      return generate('rsa', { modulusLength: 2048 });
    case 'rsa-3072':
      return generate('rsa', { modulusLength: 3072 });
    case 'rsa-4096':
      return generate('rsa', { modulusLength: 4096 });
  }
}
