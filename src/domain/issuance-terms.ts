import type { CertificateSpec, IssuerSpec } from './model.ts';

/** What is asked of a CA beside the names; the CA chooses what is undefined. */
export interface IssuanceTerms {
  readonly profile: Chosen | undefined;
  /** Common name of the issuer of the topmost certificate in the chain. */
  readonly preferredChain: Chosen | undefined;
}

export interface Chosen {
  readonly value: string;
  /** The key of the configuration that says so. */
  readonly setBy: string;
}

/** What a certificate says of itself goes before what its issuer says for all. */
export function issuanceTerms(spec: CertificateSpec, issuer: IssuerSpec): IssuanceTerms {
  return {
    profile: chosen('profile', spec, issuer),
    preferredChain: chosen('preferredChain', spec, issuer),
  };
}

function chosen(option: keyof IssuanceTerms, spec: CertificateSpec, issuer: IssuerSpec): Chosen | undefined {
  const [own, common] = [spec[option], issuer[option]];
  if (own !== undefined) return { value: own, setBy: `certificates.${spec.name}.${option}` };
  return common === undefined ? undefined : { value: common, setBy: `issuers.${issuer.name}.${option}` };
}
