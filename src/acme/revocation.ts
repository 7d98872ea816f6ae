import { KacmeError } from '../domain/errors.ts';
import { REASON_CODES } from '../domain/revocation.ts';
import { certificatesIn } from '../domain/x509.ts';
import type { RevocationRequest } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import { type AcmeAccount, notOffered } from './account.ts';
import { AcmeProblemError } from './problem.ts';
import type { AcmeSession, SignedRequest } from './session.ts';
import { createSigner } from './signer.ts';

interface RevocationContext {
  readonly session: AcmeSession;
  readonly account: AcmeAccount;
}

/** RFC 8555 section 7.6: asks as the account, or with the certificate's own key, which needs no account. */
export async function revokeCertificate(
  { chainPem, reason, keyPem }: RevocationRequest,
  { session, account }: RevocationContext,
  { signal, mandate }: EffectOptions,
): Promise<'revoked' | 'revoked before'> {
  const { revokeCert: url } = await session.directory({ signal });
  if (url === undefined) throw notOffered(account.issuer, 'revoke a certificate', 'revokeCert');
  const leaf = certificatesIn(chainPem)[0];
  if (leaf === undefined)
    throw new KacmeError('ERR_NOTHING_TO_REVOKE', 'the bundle holds no certificate', { retry: 'never' });
  const payload = { certificate: leaf.raw.toString('base64url'), reason: REASON_CODES[reason] };
  const identity: Pick<SignedRequest, 'sender' | 'signer'> =
    keyPem === undefined
      ? { sender: { kid: await account.url({ signal }) } }
      : { sender: 'jwk', signer: createSigner(keyPem) };
  const beforeSend = () => mandate.assertHeld();
  try {
    await session.post({ resource: 'revokeCert', url, payload, beforeSend, ...identity }, { signal });
    return 'revoked';
  } catch (error) {
    if (error instanceof AcmeProblemError && error.type === 'alreadyRevoked') return 'revoked before';
    throw error;
  }
}
