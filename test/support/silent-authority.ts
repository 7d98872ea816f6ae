import type { CertificateAuthority } from '../../src/ports/certificate-authority.ts';

const unasked = async () => {
  throw new Error('this test does not foresee that the CA is asked for this');
};

/** A CA for unit tests to lay the answers over that they need: everything else fails. */
export const silentAuthority: CertificateAuthority = {
  ensureAccount: unasked,
  caaIdentities: unasked,
  greet: unasked,
  accountTerms: unasked,
  account: unasked,
  profiles: unasked,
  updateContact: unasked,
  changeKey: unasked,
  deactivateAccount: unasked,
  revoke: unasked,
  newOrder: unasked,
  order: unasked,
  authorization: unasked,
  respond: unasked,
  awaitAuthorization: unasked,
  finalize: unasked,
  awaitOrder: unasked,
  certificate: unasked,
  renewalInfo: unasked,
};
