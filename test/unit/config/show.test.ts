import { expect, test } from 'vitest';
import { parse } from 'yaml';
import * as z from 'zod';
import { configJsonSchema } from '../../../src/config/json-schema.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { describeConfig, effectiveConfig } from '../../../src/config/redact.ts';
import { STARTER_CONFIG } from '../../../src/config/starter.ts';
import { VALID, valid } from './mistakes.ts';

const load = (text: string) => parseConfig([{ file: 'kacme.yaml', text }]);

const EVERYTHING = `issuers:
  private:
    directory: https://ca.example.org/directory
    contact: [mailto:a@example.org, mailto:b@example.org]
    termsOfServiceAgreed: true
    profile: tlsserver
    eab: { keyId: abc, hmacKey: { env: EAB_KEY } }
    caFile: /ca.pem
    proxy: { url: http://proxy.example.org:3128, user: kacme, password: { file: /proxy.secret } }
    timeout: 90s
    limits: { ordersPerAccount: { count: 7, per: 1h } }
    stagingFirst: rehearsal
  rehearsal: { directory: https://staging.example.org/directory, termsOfServiceAgreed: true }
certificates:
  one: { identifiers: [bücher.example], issuers: [private], key: rsa-4096, profile: edge, preferredChain: Edge Root X1, reuseKey: true }
  both: { identifiers: [both.example], issuers: [private], key: [rsa-3072, ecdsa-p384] }
pools:
  near: { local: true, haproxy: { masterSocket: /m }, verify: { connect: ["127.0.0.1:443"], handshakes: 1, timeout: 1500ms } }
  far:
    hosts:
      - a.example.org
      - "[fd00::13]:2985"
      - host: fd00::14
        name: ctl3
        port: 2222
        user: v
        identity: { env: ID }
        sftp: subsystem
        haproxy: { socket: /t }
        verify: { connect: ["[::1]:443"], handshakes: 2, timeout: 3s, through: jump }
    ssh: { user: u, port: 2222, identity: { file: /id }, knownHosts: /kh, connectTimeout: 1m, sftp: { exec: /sftp }, jump: ["v@[fd00::1]:2022", { host: b, identity: { env: B }, knownHosts: /kb }] }
    haproxy: { socket: /s, masterSocket: /m }
    verify: { connect: ["127.0.0.1:443"], through: host }
    reload: { command: [docker, kill, -s, USR2, haproxy], prepare: [set configs], validate: [haproxy, -c], on: kacme, timeout: 90s }
    maintenanceWindow: { days: [sat, sun], from: "22:05", to: "04:00", timezone: Europe/Berlin }
    parallel: 2
    stopAfter: 5
deployments:
  - { certificate: one, pool: far, path: /p, file: /f, copies: [/c], crtList: /l, crtListFile: /fl, mode: "0440", owner: 0, group: 42454, takeOver: true }
  - { certificate: both, pool: near, path: { ecdsa: /e, rsa: /r } }
  - { certificate: both, pool: far, path: { ecdsa: /e, rsa: /r }, file: { ecdsa: /fe, rsa: /fr }, copies: { ecdsa: [/ce], rsa: [] } }
challenge: { listen: "[::1]:8081", resolvers: [10.0.0.2, "[2606:4700::1111]:5353"], selfCheck: { via: "http://10.0.0.10", passes: 3 } }
operations: { listen: "localhost:9000" }
control: { socket: /run/k.sock }
store: { file: /state }
reconcile: { every: 1s }
keepBundles: 0
log: { level: trace }
`;

test.each([
  ['a small configuration', VALID],
  ['one that sets every key', EVERYTHING],
  ['one without a self-check', `${VALID}challenge: { selfCheck: off, resolvers: off }\n`],
  ['one with more passes', `${VALID}challenge: { selfCheck: { passes: 5 } }\n`],
  ['one with hosts by SRV records', valid('[10.0.0.11]', '{ srv: _ssh._tcp.a.test, resolvers: [10.0.0.2] }')],
  ['one with hosts by name', valid('[10.0.0.11]', '{ dns: a.test, refresh: 5s }')],
  ['one with hosts by a file', valid('[10.0.0.11]', '{ file: /hosts }')],
  ['one that never reloads', valid('{ socket: /s }', '{ socket: /s, masterSocket: /m }\n    reload: off')],
  ['one that reloads by the master socket', valid('{ socket: /s }', '{ masterSocket: /m }')],
  [
    'one where some hosts have a master socket',
    valid('[10.0.0.11]', '[10.0.0.11, { host: 10.0.0.12, haproxy: { masterSocket: /m } }]'),
  ],
  ['one with no limits', valid('    contact', '    limits: none\n    contact')],
  ['one without a limit', valid('    contact', '    limits: { certificatesPerSet: none }\n    contact')],
  ['the starter', STARTER_CONFIG],
])('what is shown of %s means the same when it is loaded', (_what, text) => {
  const config = load(text);
  expect(load(describeConfig(config))).toEqual(config);
  expect(load(JSON.stringify(effectiveConfig(config)))).toEqual(config);
});

test('how HAProxy is reloaded and where certificates are listed is shown', () => {
  const shown = parse(describeConfig(load(EVERYTHING)));
  expect(shown.pools.far.reload).toMatchObject({ command: ['docker', 'kill', '-s', 'USR2', 'haproxy'] });
  expect(shown.pools.near.reload).toEqual({ on: 'host', timeout: '30s' });
  expect(shown.pools.far.maintenanceWindow).toMatchObject({ from: '22:05', to: '04:00' });
  expect(shown.deployments[0]).toMatchObject({ crtList: '/l', crtListFile: '/fl' });
  expect(parse(describeConfig(load(VALID))).pools.lb.reload).toBe('off');
});

test('defaults are shown, with units', () => {
  const shown = describeConfig(load(VALID));
  for (const line of [
    'timeout: 30s',
    'every: 20s',
    'selfCheck: direct',
    'listen: 127.0.0.1:8081',
    'mode: "0600"',
  ]) {
    expect(shown).toContain(line);
  }
});

test('secrets are shown as references, never read', () => {
  const shown = describeConfig(load(EVERYTHING));
  expect(shown).toContain('hmacKey:\n        env: EAB_KEY\n');
  expect(shown).toContain('identity:\n        file: /id\n');
});

test('a password in a URL is redacted, wherever it came from', () => {
  const config = load(VALID);
  const shown = describeConfig({
    ...config,
    issuers: Object.fromEntries(
      Object.entries(config.issuers).map(([name, issuer]) => [
        name,
        { ...issuer, directory: 'https://me:hunter2@ca.example.org/dir' },
      ]),
    ),
    challenge: { ...config.challenge, selfCheck: { via: 'http://hunter2@10.0.0.10/', passes: 2 } },
  });
  expect(shown).not.toContain('hunter2');
  expect(shown).toContain('https://redacted@ca.example.org/dir');
});

test('the starter is valid as it stands', () => {
  expect(Object.keys(load(STARTER_CONFIG).certificates)).toEqual(['external']);
});

test.each([
  ['the starter', STARTER_CONFIG],
  ['a configuration that sets every key', EVERYTHING],
  ['selfCheck: off', `${VALID}challenge: { selfCheck: off, resolvers: off }\n`],
  ['hosts that are discovered', valid('[10.0.0.11]', '{ srv: _ssh._tcp.a.test }')],
])('the JSON schema accepts %s', (_what, text) => {
  expect(z.fromJSONSchema(configJsonSchema()).safeParse(parse(text)).error).toBeUndefined();
});

test.each([
  ['an unknown key', `${VALID}keepBundels: 2\n`],
  ['a missing key', valid('    path: /p.pem\n', '')],
  ['a value that is not allowed', valid('ecdsa-p256', 'ecdsa')],
  ['a duration without a unit', `${VALID}reconcile: { every: "20" }\n`],
])('the JSON schema refuses %s', (_what, text) => {
  expect(z.fromJSONSchema(configJsonSchema()).safeParse(parse(text)).success).toBe(false);
});

test('every key has a description in the JSON schema', () => {
  expect(configKeys(configJsonSchema()).filter(({ description }) => description === undefined)).toEqual([]);
});

function configKeys(
  schema: z.core.JSONSchema.BaseSchema,
  path = '',
): { path: string; description?: string }[] {
  const inner = [schema.items, schema.additionalProperties, ...(schema.anyOf ?? [])].flatMap((part) =>
    typeof part === 'object' && !Array.isArray(part) ? configKeys(part, path) : [],
  );
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
    if (typeof value === 'boolean') return [];
    const at = `${path}/${key}`;
    return [
      { path: at, ...(value.description === undefined ? {} : { description: value.description }) },
      ...configKeys(value, at),
    ];
  });
  return [...own, ...inner];
}
