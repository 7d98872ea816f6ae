import type { Pki } from '../ports/pki.ts';
import { generateKey } from './generate-key.ts';

/** Keys by node:crypto, certificates by node-forge, which is loaded when the first one is made. */
export function createPki(): Pki {
  return {
    generateKey,
    selfSign: async (request) => (await import('./self-sign.ts')).selfSign(request),
  };
}
