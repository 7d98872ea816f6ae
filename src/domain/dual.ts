import type { KeyFamily, KeyType } from './model.ts';

export const KEY_FAMILIES = ['ecdsa', 'rsa'] as const satisfies readonly KeyFamily[];

export function keyFamilyOf(type: KeyType): KeyFamily {
  return type.startsWith('rsa') ? 'rsa' : 'ecdsa';
}

/** The name that says which half of a dual certificate is meant. */
export function halfName(dual: string, family: KeyFamily): string {
  return `${dual}-${family}`;
}

/** As people write it. */
export function familyName(family: KeyFamily): string {
  return family.toUpperCase();
}
