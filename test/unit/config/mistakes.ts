import { ConfigError, formatIssue } from '../../../src/config/issue.ts';
import { type ConfigText, parseConfig } from '../../../src/config/load.ts';

/** A small valid configuration, one key per line where a test replaces it. */
export const VALID = `issuers:
  letsencrypt:
    directory: https://acme-v02.api.letsencrypt.org/directory
    contact: [mailto:ops@example.org]
    termsOfServiceAgreed: true
certificates:
  external:
    identifiers: [cloud.example.org]
    issuers: [letsencrypt]
    key: ecdsa-p256
pools:
  lb:
    hosts: [10.0.0.11]
    ssh: { user: haproxy, identity: { file: /k }, knownHosts: /kh }
    haproxy: { socket: /s }
    verify: { connect: ["{host}:443"] }
deployments:
  - certificate: external
    pool: lb
    path: /p.pem
`;

/** `VALID` with one piece of text replaced. */
export function valid(from: string, to: string): string {
  if (!VALID.includes(from)) throw new Error(`the valid configuration has no ${from}`);
  return VALID.replace(from, () => to);
}

/** The lines of the error, without the file's name when there is one file only; empty when it is valid. */
export function mistakesIn(...texts: readonly (string | ConfigText)[]): readonly string[] {
  const files = texts.map((text) => (typeof text === 'string' ? { file: 'kacme.yaml', text } : text));
  try {
    parseConfig(files);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.issues
      .map(formatIssue)
      .map((line) => (files.length > 1 ? line : line.replace(/^kacme\.yaml:/, '')));
  }
}
