import { parseIssueValue } from './caa-property.ts';
import { KacmeError } from './errors.ts';
import { isIpAddress } from './ip-address.ts';

/** One CAA resource record (RFC 8659 section 4.1). */
export interface CaaRecord {
  /** Bit 7 (128) is "issuer critical". */
  readonly flags: number;
  readonly tag: string;
  readonly value: string;
}

/** What a resolver answered for one name, aliases followed: its CAA records (maybe none), or why there is no answer. */
export type CaaAnswer = readonly CaaRecord[] | { readonly failure: string };

/** Who wants to issue, and how. */
export interface CaaIssuer {
  /** `caaIdentities` of the CA's directory (RFC 8555 section 9.7.6). */
  readonly identities: readonly string[];
  /** Undefined while there is no account yet. */
  readonly accountUri: string | undefined;
  readonly validationMethod: string;
}

/** Whether the CA may issue. `undetermined`: it would refuse for now, or cannot be told apart from others. */
export interface CaaVerdict {
  readonly verdict: 'allowed' | 'denied' | 'undetermined';
  readonly reason: string;
  /** Where the deciding records lie: the identifier or a parent of it. */
  readonly name: string | undefined;
  /** The record that decides, where it is one alone. */
  readonly record: CaaRecord | undefined;
}

/** Tags with a meaning of their own (RFC 8659 section 4, RFC 9495, CA/Browser Forum): critical or not, they are understood. */
const KNOWN_TAGS = new Set([
  'issue',
  'issuewild',
  'iodef',
  'issuemail',
  'issuevmc',
  'contactemail',
  'contactphone',
]);
const CRITICAL = 0x80;

const NO_ACCOUNT_YET = 'permits one account only, and none is registered yet';

/** The names to look up for an identifier, itself first, the top-level domain last; none for an IP address. */
export function caaNames(identifier: string): readonly string[] {
  if (isIpAddress(identifier)) return [];
  const labels = identifier.replace(/^\*\./, '').replace(/\.$/, '').toLowerCase().split('.');
  return labels.map((_, i) => labels.slice(i).join('.'));
}

/**
 * Whether CAA lets this CA issue for the identifier (RFC 8659 section 3 and 4, RFC 8657). `answers` holds one answer
 * for each name of `caaNames`, at least up to the first that has records.
 */
export function judgeCaa(
  identifier: string,
  answers: ReadonlyMap<string, CaaAnswer>,
  issuer: CaaIssuer,
): CaaVerdict {
  if (isIpAddress(identifier)) return verdict('allowed', 'IP addresses have no CAA records');
  for (const name of caaNames(identifier)) {
    const answer = answers.get(name) ?? { failure: 'it was not looked up' };
    // RFC 8659 section 3 climbs on an empty answer only: without an answer a CA must not issue.
    if ('failure' in answer)
      return verdict('undetermined', `the CAA records of ${name} are not known: ${answer.failure}`, name);
    if (answer.length > 0) return judgeRecords(identifier.startsWith('*.'), name, answer, issuer);
  }
  return verdict('allowed', 'there are no CAA records');
}

function judgeRecords(
  wildcard: boolean,
  name: string,
  records: readonly CaaRecord[],
  issuer: CaaIssuer,
): CaaVerdict {
  const unknown = records.find((record) => (record.flags & CRITICAL) !== 0 && !isKnown(record));
  if (unknown !== undefined) {
    const reason = `${name} has a critical CAA property that no CA may ignore: ${render(unknown)}`;
    return verdict('denied', reason, name, unknown);
  }
  const tagged = (wanted: string) => records.filter(({ tag }) => tag.toLowerCase() === wanted);
  const wild = wildcard ? tagged('issuewild') : [];
  const properties = wild.length > 0 ? wild : tagged('issue');
  if (properties.length === 0)
    return verdict('allowed', `the CAA records of ${name} do not restrict this`, name);
  if (issuer.identities.length === 0) {
    const reason = `${name} restricts issuance by CAA, and the CA does not say by which names it is known there`;
    return verdict('undetermined', reason, name);
  }
  const judged = properties.map((record) => ({ record, objection: objectionTo(record.value, issuer) }));
  const permission = judged.find(({ objection }) => objection === undefined);
  if (permission !== undefined)
    return verdict('allowed', `${name} permits it: ${render(permission.record)}`, name, permission.record);
  const objections = judged.map(({ record, objection }) => `${render(record)} ${objection}`).join('; ');
  const alone = judged.length === 1 ? judged[0]?.record : undefined;
  // The account that one of them permits may be the one that is about to be registered.
  const kind = judged.some(({ objection }) => objection === NO_ACCOUNT_YET) ? 'undetermined' : 'denied';
  return verdict(kind, `no CAA record of ${name} permits it: ${objections}`, name, alone);
}

/** What to tell an operator whose CAA records deny it; permanent until the records change. */
export function caaDenied(
  identifier: string,
  { reason, name = identifier, record }: CaaVerdict,
  { identities }: Pick<CaaIssuer, 'identities'>,
): KacmeError {
  const critical = record !== undefined && (record.flags & CRITICAL) !== 0 && !isKnown(record);
  const permission = `CAA 0 issue ${JSON.stringify(identities[0] ?? '')}`;
  return new KacmeError(
    'ERR_CAA_DENIED',
    `CAA does not let the CA issue for ${identifier}: ${reason}. No order was placed`,
    {
      retry: 'never',
      remedy: critical
        ? `remove this property from the CAA records of ${name}, or its critical flag`
        : `add the record ${permission} at ${name}, or name another issuer that its CAA records permit`,
    },
  );
}

/** Why an `issue` or `issuewild` property does not permit this issuer; undefined when it does. */
function objectionTo(
  text: string,
  { identities, accountUri, validationMethod }: CaaIssuer,
): string | undefined {
  const value = parseIssueValue(text);
  if (value === undefined) return 'is malformed and so permits nobody';
  if (value.issuerDomain === '') return 'permits nobody';
  const isOurs = identities.some((identity) => identity.toLowerCase() === value.issuerDomain);
  if (!isOurs) return `permits another CA than ${identities.join(', ')}`;
  const accounts = value.parameters.filter(({ tag }) => tag === 'accounturi');
  const methods = value.parameters.filter(({ tag }) => tag === 'validationmethods');
  // RFC 8657 section 3 and 4: a parameter that is there twice cannot be satisfied.
  if (accounts.length > 1 || methods.length > 1) return 'has a parameter twice and so permits nobody';
  if (accounts[0] !== undefined && accounts[0].value !== accountUri)
    return accountUri === undefined ? NO_ACCOUNT_YET : `permits another account than ${accountUri}`;
  if (methods[0] !== undefined && !methods[0].value.split(',').includes(validationMethod))
    return `does not permit validation by ${validationMethod}`;
  return undefined;
}

function verdict(kind: CaaVerdict['verdict'], reason: string, name?: string, record?: CaaRecord): CaaVerdict {
  return { verdict: kind, reason, name, record };
}

const isKnown = ({ tag }: CaaRecord): boolean => KNOWN_TAGS.has(tag.toLowerCase());

/** As in a zone file (RFC 8659 section 4.1.1). */
const render = ({ flags, tag, value }: CaaRecord): string => `CAA ${flags} ${tag} ${JSON.stringify(value)}`;
