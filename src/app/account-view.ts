import type { AccountView } from '../domain/account.ts';
import { accountKeyFacts } from '../domain/account-key.ts';
import { reportError } from '../domain/errors.ts';
import type { IssuerSpec } from '../domain/model.ts';
import { sameNames } from '../domain/same-names.ts';
import type { Account, AccountTerms, CertificateAuthority } from '../ports/certificate-authority.ts';
import type { Authorities } from './authorities.ts';
import type { AppDeps } from './deps.ts';
import { expectedFailure } from './expected-failure.ts';
import type { AccountRecord } from './records.ts';

interface Asked {
  readonly terms: AccountTerms;
  /** Undefined when the CA knows neither key. */
  readonly account: Account | undefined;
  /** The key that the CA knows the account by; the record's when it knows none. */
  readonly keyPem: string | undefined;
}

/** What kacme and the CA know of the account. Only reads: no account is made, no key change finished. */
export async function viewAccount(
  spec: IssuerSpec,
  authorities: Authorities,
  { pki }: Pick<AppDeps, 'pki'>,
  options: { signal: AbortSignal },
): Promise<AccountView> {
  const record = (await authorities.records.find(spec, options))?.value;
  const known = {
    issuer: spec.name,
    directory: spec.directory,
    configuredContact: spec.contact,
    externalAccountConfigured: spec.eab !== undefined,
  };
  try {
    // Directories are public; a key is needed all the same, since whoever asks has one.
    const keyPem = record?.keyPem ?? (await pki.generateKey('ecdsa-p256'));
    const asked = await ask(
      await authorities.connect(spec, keyPem),
      record,
      (pem) => authorities.connect(spec, pem),
      options,
    );
    const { account, terms } = asked;
    return {
      ...known,
      state: stateOf(record, account),
      url: account?.url ?? record?.url,
      contact: account?.contact,
      key: keyOf(asked.keyPem),
      orders: account?.orders,
      termsOfService: terms.termsOfService,
      externalAccountRequired: terms.externalAccountRequired,
      notes: notesOn(spec, record, asked),
      failure: undefined,
    };
  } catch (error) {
    return {
      ...known,
      state: 'unknown',
      url: record?.url,
      contact: undefined,
      key: keyOf(record?.keyPem),
      orders: undefined,
      termsOfService: undefined,
      externalAccountRequired: undefined,
      notes: [],
      failure: reportError(expectedFailure(error, options)),
    };
  }
}

async function ask(
  authority: CertificateAuthority,
  record: AccountRecord | undefined,
  connect: (keyPem: string) => Promise<CertificateAuthority>,
  options: { signal: AbortSignal },
): Promise<Asked> {
  const terms = await authority.accountTerms(options);
  if (record === undefined) return { terms, account: undefined, keyPem: undefined };
  const account = await authority.account(options);
  if (account !== undefined || record.nextKeyPem === undefined)
    return { terms, account, keyPem: record.keyPem };
  const successor = await (await connect(record.nextKeyPem)).account(options);
  return { terms, account: successor, keyPem: successor === undefined ? record.keyPem : record.nextKeyPem };
}

function stateOf(record: AccountRecord | undefined, account: Account | undefined): AccountView['state'] {
  if (record === undefined) return 'none';
  if (account !== undefined) return account.status;
  return record.closed === undefined ? 'unregistered' : 'deactivated';
}

function keyOf(keyPem: string | undefined): AccountView['key'] {
  if (keyPem === undefined) return undefined;
  const { type, thumbprint } = accountKeyFacts(keyPem);
  return { type, thumbprint };
}

function notesOn(
  spec: IssuerSpec,
  record: AccountRecord | undefined,
  { terms, account }: Asked,
): readonly string[] {
  const { name, contact, eab, termsOfServiceAgreed } = spec;
  const registered = account?.status === 'valid';
  const notes: string[] = [];
  if (record?.nextKeyPem !== undefined)
    notes.push('a change of its key is not finished: the next use of the account finishes it');
  if (record?.closed !== undefined)
    notes.push(
      `deactivated by the operator at ${record.closed.since}: kacme account register ${name} makes another one`,
    );
  else if (account !== undefined && !registered)
    notes.push(`closed at the CA: kacme account register ${name} makes another one`);
  if (registered && account.contact !== undefined && !sameNames(account.contact, contact))
    notes.push(`the CA has other contacts than the configuration: kacme account update ${name}`);
  if (!registered && terms.externalAccountRequired && eab === undefined)
    notes.push(
      `the CA makes accounts only for its customers: set issuers.${name}.eab to the keyId and hmacKey it gave you`,
    );
  if (!registered && terms.termsOfService !== undefined && !termsOfServiceAgreed)
    notes.push(
      `an account needs agreement to the terms: read them, then set issuers.${name}.termsOfServiceAgreed: true`,
    );
  return notes;
}
