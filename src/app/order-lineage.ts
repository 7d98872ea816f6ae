import type { CertificateSpec } from '../domain/model.ts';
import type { OrderKind } from '../domain/rate-limits.ts';
import { insideWindow } from '../domain/renewal-info.ts';
import { sameNames } from '../domain/same-names.ts';
import type { Bundles } from './bundles.ts';
import type { AppDeps } from './deps.ts';
import { renewalInfoOf } from './renewal-info.ts';

/** What the next order of a certificate renews. */
export interface OrderLineage {
  /** How the CA counts it: without limit inside the window that it suggested itself. */
  readonly kind: OrderKind;
  /** certID of the certificate that it replaces (RFC 9773 section 5). */
  readonly replaces: string | undefined;
  /** How the CA counts it when it does not accept what it replaces. */
  readonly kindAlone: OrderKind;
}

export async function lineageOf(
  spec: CertificateSpec,
  issuer: string,
  { bundles, store, clock }: { readonly bundles: Bundles } & Pick<AppDeps, 'store' | 'clock'>,
  options: { signal: AbortSignal },
): Promise<OrderLineage> {
  const held = await bundles.active(spec.name, options);
  if (held?.issuer !== issuer) return { kind: 'new', replaces: undefined, kindAlone: 'new' };
  const goesOn = spec.identifiers.some((name) => held.identifiers.includes(name));
  const replaces = goesOn ? held.certID : undefined;
  const state = await renewalInfoOf(store, held, options);
  const kindAlone = sameNames(held.identifiers, spec.identifiers) ? 'renewal' : 'new';
  const exempt = replaces !== undefined && insideWindow(state, clock.now());
  return { kind: exempt ? 'ari-renewal' : kindAlone, replaces, kindAlone };
}
