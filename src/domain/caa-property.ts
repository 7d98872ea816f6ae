/** The value of an `issue` or `issuewild` property, taken apart. */
export interface IssueValue {
  /** Lower case; empty when the property permits nobody. */
  readonly issuerDomain: string;
  readonly parameters: readonly CaaParameter[];
}

export interface CaaParameter {
  /** Lower case: tags are compared without case. */
  readonly tag: string;
  readonly value: string;
}

const LABEL = '[a-z0-9](?:-*[a-z0-9])*';
const ISSUER_DOMAIN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*)?$`, 'i');
const PARAMETER = new RegExp(`^(${LABEL})[ \\t]*=[ \\t]*([\\x21-\\x3a\\x3c-\\x7e]*)$`, 'i');

/**
 * Parses by the grammar of RFC 8659 section 4.2. Undefined for what does not fit it, which has to be read as permitting
 * nobody.
 */
export function parseIssueValue(text: string): IssueValue | undefined {
  const [domain = '', ...rest] = text.split(';').map((part) => part.replace(/^[ \t]+|[ \t]+$/g, ''));
  if (!ISSUER_DOMAIN.test(domain)) return undefined;
  // "ca.example;" is in the grammar; "ca.example; a=b;" is not, but people write it and CAs accept it.
  if (rest.at(-1) === '') rest.pop();
  const parameters: CaaParameter[] = [];
  for (const part of rest) {
    const [, tag, value] = PARAMETER.exec(part) ?? [];
    if (tag === undefined || value === undefined) return undefined;
    parameters.push({ tag: tag.toLowerCase(), value });
  }
  return { issuerDomain: domain.toLowerCase(), parameters };
}
