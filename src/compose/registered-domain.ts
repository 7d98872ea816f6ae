import { getDomain } from 'tldts';
import type { RegisteredDomain } from '../domain/registered-domain.ts';

/** By the public suffix list that comes with tldts. */
export const registeredDomain: RegisteredDomain = (name) =>
  getDomain(name, { allowPrivateDomains: true }) ?? undefined;
