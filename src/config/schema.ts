import * as z from 'zod';
import { parseEndpoint } from './address.ts';
import {
  absolutePath,
  duration,
  flag,
  haproxyPath,
  identifier,
  listen,
  named,
  oneOf,
  parsed,
  section,
  socketPath,
  text,
  url,
  whole,
} from './fields.ts';

const SecretReference = section(
  {
    file: absolutePath('/etc/kacme/secret').optional().describe('A file that only kacme can read.'),
    env: text('the name of an environment variable', /^[A-Za-z_]\w*$/)
      .optional()
      .describe('An environment variable.'),
  },
  { expected: 'a reference, { file: PATH } or { env: NAME }: a secret itself never stands in this file' },
)
  .transform(({ file, env }, context) => {
    if (file !== undefined && env === undefined) return { file };
    if (env !== undefined && file === undefined) return { env };
    context.issues.push({ code: 'custom', input: undefined, message: 'expected either file or env' });
    return z.NEVER;
  })
  .meta({ minProperties: 1, maxProperties: 1 });

const Issuer = section(
  {
    directory: url(['https'], 'https://acme-v02.api.letsencrypt.org/directory').describe(
      'URL of the ACME directory (RFC 8555 section 7.1.1).',
    ),
    contact: z
      .array(text('an address such as mailto:ops@example.org', /^mailto:[^\s?,@]+@[^\s?,@]+$/), {
        error: 'expected a list of addresses such as [mailto:ops@example.org]',
      })
      .prefault([])
      .describe('Addresses that the CA may write to.'),
    termsOfServiceAgreed: z
      .literal(true, {
        error:
          'expected true: a CA registers no account before its terms of service, which its directory names, ' +
          'were read and agreed to',
      })
      .describe("That you have read the CA's terms of service and agree to them."),
    profile: text('the name of a profile that the CA offers, such as tlsserver', /^[\w.-]+$/)
      .optional()
      .describe('Certificate profile to ask for; the CA chooses when it is not given.'),
    eab: section(
      {
        keyId: text('the key identifier that the CA gave', /^\S+$/).describe(
          'Key identifier that the CA gave.',
        ),
        hmacKey: SecretReference.describe('Its HMAC key, base64url.'),
      },
      { expected: '{ keyId: ID, hmacKey: { file: PATH } }' },
    )
      .optional()
      .describe('External account binding (RFC 8555 section 7.3.4).'),
    caFile: absolutePath('/etc/kacme/private-ca.pem')
      .optional()
      .describe(
        "PEM file with the roots that sign the CA's own HTTPS certificate, when the system lacks them.",
      ),
    timeout: duration({ min: '1s', max: '10m' }).prefault('30s').describe('Bound of one request to the CA.'),
  },
  { expected: 'an issuer: directory, contact, termsOfServiceAgreed' },
);

const Certificate = section(
  {
    identifiers: z
      .array(identifier(), { error: 'expected a list of DNS names' })
      .min(1, 'expected at least one DNS name')
      .describe('DNS names the certificate is for; international ones are turned into A-labels.'),
    issuers: z
      .array(z.string({ error: 'expected the name of an issuer' }), {
        error: 'expected a list of names of issuers',
      })
      .min(1, 'expected at least one issuer')
      .describe('Issuers in order of preference: the next one is tried when one keeps failing.'),
    key: z
      .enum(['ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'], {
        error: ({ input }) =>
          Array.isArray(input)
            ? 'dual bundles do not exist in kacme yet: give one key type'
            : 'expected one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096',
      })
      .prefault('ecdsa-p256')
      .describe('Type of the private key.'),
  },
  { expected: 'a certificate: identifiers, issuers, key' },
);

const Host = parsed(
  (input) =>
    typeof input === 'object' && input !== null
      ? 'an address: settings of a single host do not exist in kacme yet, a pool of its own has the same effect'
      : 'an address, such as 10.0.0.11, "10.0.0.12:2985", "[fd00::13]:2985" or a name',
  parseEndpoint,
);

const Ssh = section(
  {
    user: text('the name of a user', /^[A-Za-z_][\w.-]*\$?$/).describe('Account on the hosts.'),
    port: whole(1, 65_535).prefault(22).describe('Port of sshd, for hosts that are given without one.'),
    identity: SecretReference.describe('Private key that logs in.'),
    knownHosts: absolutePath('/etc/kacme/known_hosts').describe(
      'The pinned host keys, in the format of sshd(8); a host that is not in it is refused.',
    ),
    connectTimeout: duration({ min: '100ms', max: '5m' })
      .prefault('10s')
      .describe('Bound of connection, handshake and login together.'),
    sftp: z
      .union(
        [
          oneOf(['subsystem']),
          section({ exec: absolutePath('/usr/lib/openssh/sftp-server') }, { expected: '{ exec: PATH }' }),
        ],
        { error: 'expected subsystem, or { exec: PATH } with the path of an sftp-server on the hosts' },
      )
      .prefault('subsystem')
      .describe('How SFTP is reached: the subsystem of sshd, or an sftp-server that is executed.'),
  },
  {
    expected: 'the way into the hosts: user, identity, knownHosts',
    later: { jump: 'kacme has to reach each host directly' },
  },
);

const Haproxy = section(
  {
    socket: socketPath('/var/lib/haproxy/admin.sock')
      .optional()
      .describe('Stats socket with `level admin`, as the SSH side sees it.'),
    masterSocket: socketPath('/var/lib/haproxy/master.sock')
      .optional()
      .describe('Master CLI socket (`haproxy -S`), as the SSH side sees it.'),
  },
  { expected: 'the sockets of HAProxy: { socket: PATH }, { masterSocket: PATH } or both' },
).refine(({ socket, masterSocket }) => socket !== undefined || masterSocket !== undefined, {
  error: 'expected socket, masterSocket or both',
});

const ConnectTemplate = parsed('an address and a port, such as "{host}:443"', (template) => {
  // A literal address stands in for the host's, so that the rest is judged as what it will become.
  const endpoint = parseEndpoint(template.replace('{host}', 'host'));
  if ('problem' in endpoint)
    return { problem: `expected "HOST:PORT", such as "{host}:443": ${endpoint.problem}` };
  if (endpoint.value.port === undefined) return { problem: 'expected a port too, such as "{host}:443"' };
  return { value: template };
});

const Verify = section(
  {
    connect: z
      .array(ConnectTemplate, { error: 'expected a list such as ["{host}:443"]' })
      .prefault([])
      .describe("Where real handshakes verify a host; {host} stands for the host's address."),
    handshakes: whole(1, 100).prefault(4).describe('TLS handshakes for each entry of `connect`.'),
    timeout: duration({ min: '100ms', max: '1m' }).prefault('5s').describe('Bound of one handshake.'),
  },
  { expected: 'where to verify: { connect: ["{host}:443"] }' },
);

const Pool = section(
  {
    hosts: z
      .array(Host, {
        error: ({ input }) =>
          typeof input === 'object' && input !== null && 'srv' in input
            ? 'discovery by SRV records does not exist in kacme yet: list the hosts'
            : 'expected a list of hosts, such as [10.0.0.11, "10.0.0.12:2985"]',
      })
      .min(1, 'expected at least one host')
      .optional()
      .describe("Addresses of the hosts' sshd. A local pool needs none."),
    local: flag().prefault(false).describe('HAProxy runs on this very machine: no SSH.'),
    ssh: Ssh.optional().describe('How to log in. Required unless the pool is local.'),
    haproxy: Haproxy.describe("HAProxy's sockets; at least one."),
    verify: Verify.prefault({}).describe('Where and how a deployed bundle is verified.'),
    parallel: whole(1, 100).prefault(10).describe('Hosts that are changed side by side after the first one.'),
  },
  {
    expected: 'a pool: hosts, ssh, haproxy, verify',
    later: {
      reload: 'certificates are replaced without a reload',
      jump: 'kacme has to reach each host directly',
      overrides: 'a host that differs goes into a pool of its own',
    },
  },
);

const Deployment = section(
  {
    certificate: z
      .string({ error: 'expected the name of a certificate' })
      .describe('Name of the certificate.'),
    pool: z.string({ error: 'expected the name of a pool' }).describe('Name of the pool it goes to.'),
    path: haproxyPath('/etc/haproxy/certificates/haproxy.pem').describe(
      'The name HAProxy knows the bundle by: the argument of `crt`.',
    ),
    file: absolutePath('/srv/certificates/haproxy.pem')
      .optional()
      .describe('The same file as the SSH side sees it, where that differs from `path`.'),
    copies: z
      .array(absolutePath('/etc/kolla/haproxy/haproxy.pem'), { error: 'expected a list of paths' })
      .prefault([])
      .describe('More files to keep equal to it, as the SSH side sees them.'),
    mode: text('"0600", "0640", "0400" or "0440", in quotes: the file holds a private key', /^0[46][04]0$/)
      .prefault('0600')
      .describe('Permission bits of the file, in octal.'),
    owner: ownerId('a user id', 'id -u haproxy').optional().describe('User id that owns the file.'),
    group: ownerId('a group id', 'id -g haproxy').optional().describe('Group id of the file.'),
    takeOver: flag().prefault(false).describe('Replace also a valid certificate that is not from kacme.'),
  },
  {
    expected: 'a deployment: certificate, pool, path',
    later: { crtList: 'name the path in the crt-list of HAProxy yourself' },
  },
);

/** SFTP version 3 knows owners by number only. */
function ownerId(what: string, command: string) {
  const error = `expected ${what} as a number, as \`${command}\` prints it on the host`;
  return z.int({ error }).min(0, error).max(4_294_967_294, error);
}

const Challenge = section(
  {
    listen: listen('127.0.0.1:8081')
      .prefault('127.0.0.1:8081')
      .describe('Where HTTP-01 challenges are answered, behind HAProxy.'),
    selfCheck: z
      .union(
        [
          oneOf(['direct', 'off']),
          // What `off` is to a YAML 1.1 editor.
          z.literal(false).transform(() => 'off' as const),
          section({ via: url(['http', 'https'], 'http://10.0.0.10') }, { expected: '{ via: URL }' }),
        ],
        { error: 'expected direct, off, or { via: URL } with the URL of what routes challenges to kacme' },
      )
      .prefault('direct')
      .describe('How kacme tests that a challenge can be fetched before it asks the CA.'),
  },
  { expected: '{ listen: "HOST:PORT", selfCheck: ... }' },
);

const Store = section(
  { file: absolutePath('/var/lib/kacme').prefault('/var/lib/kacme').describe('Directory of the state.') },
  {
    expected: 'a store: { file: DIRECTORY }',
    later: {
      etcd: 'the file store is the only one',
      encryptionKey: 'the file store is protected by the permissions of its directory',
    },
  },
);

/** The configuration as it is written; what it means is `KacmeConfig`. */
export const ConfigFile = section(
  {
    issuers: named(Issuer, 'issuers').describe('ACME directories and an account at each.'),
    certificates: named(Certificate, 'certificates').describe('Certificates to hold.'),
    pools: named(Pool, 'pools').describe('Hosts that are configured alike.'),
    deployments: z
      .array(Deployment, { error: 'expected a list of deployments: certificate, pool, path' })
      .describe('Which certificate goes to which pool, at which path.'),
    challenge: Challenge.prefault({}).describe('Answering the CA.'),
    operations: section(
      {
        listen: listen('127.0.0.1:8083')
          .prefault('127.0.0.1:8083')
          .describe('Where health, metrics and status are served.'),
      },
      { expected: '{ listen: "HOST:PORT" }' },
    )
      .prefault({})
      .describe('The operations server.'),
    control: section(
      {
        socket: socketPath('/run/kacme/kacme.sock')
          .optional()
          .describe('UNIX socket of the command line; kacme.sock in the directory of the store by default.'),
      },
      { expected: '{ socket: PATH }' },
    )
      .prefault({})
      .describe('How commands reach the running service.'),
    store: Store.prefault({}).describe('Where state is kept.'),
    reconcile: section(
      {
        every: duration({ min: '1s', max: '30s', why: ': kacme promises to repair a host within 30 s' })
          .prefault('20s')
          .describe('Time between two looks at a host.'),
      },
      { expected: '{ every: "20s" }' },
    )
      .prefault({})
      .describe('Looking after the hosts.'),
    keepBundles: whole(0, 100)
      .prefault(3)
      .describe('Old bundles kept for each certificate besides the active one, keys included.'),
    log: section(
      {
        level: oneOf(['trace', 'debug', 'info', 'warn', 'error'])
          .prefault('info')
          .describe('Least level logged.'),
      },
      { expected: '{ level: info }' },
    )
      .prefault({})
      .describe('Logging, to stderr.'),
  },
  { expected: 'a map of keys such as issuers, certificates, pools' },
);

export type ConfigInput = z.input<typeof ConfigFile>;
export type ConfigOutput = z.output<typeof ConfigFile>;
