import type { Logger } from 'pino';
import { KacmeError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import type { CertificateAuthority } from '../ports/certificate-authority.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { AccountRecords, HeldAccount } from './account-records.ts';

export interface KeyChangeDeps {
  readonly records: AccountRecords;
  readonly connect: (spec: IssuerSpec, keyPem: string) => Promise<CertificateAuthority>;
  readonly log: Logger;
}

export interface KeyChange {
  readonly held: HeldAccount;
  /** Why the account has kept its key. */
  readonly refusal: KacmeError | undefined;
}

/**
 * Finishes a change of the account's key (RFC 8555 section 7.3.5), however far it had come: first it is found out which of
 * both keys the CA knows. Throws, and leaves both stored, while that cannot be known.
 */
export async function finishKeyChange(
  spec: IssuerSpec,
  held: HeldAccount,
  { records, connect, log }: KeyChangeDeps,
  options: EffectOptions,
): Promise<KeyChange> {
  const { keyPem, nextKeyPem } = held.value;
  if (nextKeyPem === undefined) return { held, refusal: undefined };
  const adopt = async (): Promise<KeyChange> => {
    const value = { ...held.value, keyPem: nextKeyPem, nextKeyPem: undefined };
    const adopted = await records.put(spec, held.revision, value, {}, options);
    log.info({ issuer: spec.name, account: value.url }, 'account key changed');
    return { held: adopted, refusal: undefined };
  };

  const next = await connect(spec, nextKeyPem);
  if ((await next.account(options))?.status === 'valid') return adopt();
  const present = await connect(spec, keyPem);
  try {
    await present.changeKey(nextKeyPem, options);
    return await adopt();
  } catch (error) {
    if (!(error instanceof KacmeError) || error.code !== 'ERR_ACME_PROBLEM') throw error;
    // Only the CA's word that it goes by the old key makes the new one worthless.
    if ((await present.account(options))?.status !== 'valid') throw error;
    const value = { ...held.value, nextKeyPem: undefined };
    log.warn({ issuer: spec.name, account: value.url, err: error }, 'account key not changed');
    return { held: await records.put(spec, held.revision, value, {}, options), refusal: error };
  }
}
