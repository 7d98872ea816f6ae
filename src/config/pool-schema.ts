import * as z from 'zod';
import { parseEndpoint } from './address.ts';
import { DISCOVERY_EXPECTED, Discovery } from './discovery-schema.ts';
import { perFamily } from './dual-schema.ts';
import {
  absolutePath,
  addressAlone,
  duration,
  flag,
  haproxyPath,
  oneOf,
  parsed,
  SecretReference,
  section,
  socketPath,
  text,
  whole,
} from './fields.ts';
import { Maintenance } from './maintenance-schema.ts';
import { Reload } from './reload-schema.ts';
import { loginUser, Ssh, sftp, sshPort } from './ssh-schema.ts';

const haproxyKeys = {
  socket: socketPath('/run/haproxy/admin.sock')
    .optional()
    .describe('Stats socket with `level admin`, as the SSH side sees it.'),
  masterSocket: socketPath('/var/lib/haproxy/master.sock')
    .optional()
    .describe('Master CLI socket (`haproxy -S`), as the SSH side sees it.'),
};
const haproxyExpected = {
  expected: 'the sockets of HAProxy: { socket: PATH }, { masterSocket: PATH } or both',
};

const Haproxy = section(haproxyKeys, haproxyExpected).refine(
  ({ socket, masterSocket }) => socket !== undefined || masterSocket !== undefined,
  {
    error: 'expected socket, masterSocket or both',
  },
);

const ConnectTemplate = parsed('an address and a port, such as "{host}:443"', (template) => {
  // A literal address stands in for the host's, so that the rest is judged as what it will become.
  const endpoint = parseEndpoint(template.replace(/\[\{host\}\]|\{host\}/, 'host'));
  if ('problem' in endpoint)
    return { problem: `expected "HOST:PORT", such as "{host}:443": ${endpoint.problem}` };
  if (endpoint.value.port === undefined) return { problem: 'expected a port too, such as "{host}:443"' };
  return { value: template };
});

const verifyKeys = {
  connect: z
    .array(ConnectTemplate, { error: 'expected a list such as ["{host}:443"]' })
    .describe("Where real handshakes verify a host; {host} stands for the host's address."),
  handshakes: whole(1, 100).describe('TLS handshakes for each entry of `connect`.'),
  timeout: duration({ min: '100ms', max: '1m' }).describe('Bound of one handshake.'),
  through: oneOf(['direct', 'host', 'jump']).describe(
    'Where handshakes start: here, on the host, or on its last jump host; the latter two over SSH.',
  ),
};
const verifyExpected = { expected: 'where to verify: { connect: ["{host}:443"] }' };

const Verify = section(
  {
    connect: verifyKeys.connect.prefault([]),
    handshakes: verifyKeys.handshakes.prefault(4),
    timeout: verifyKeys.timeout.prefault('5s'),
    through: verifyKeys.through.optional(),
  },
  verifyExpected,
);

const HOST_EXPECTED = 'an address, such as 10.0.0.11, "10.0.0.12:2985", "[fd00::13]:2985" or a name';

/** A host that differs from its pool; what is not given is the pool's. */
const HostSettings = section(
  {
    host: addressAlone('10.0.0.13').describe('Address of its sshd.'),
    name: text('a name of letters, digits, dots, hyphens and underscores', /^[A-Za-z0-9][\w.-]{0,62}$/)
      .optional()
      .describe('What it is called in messages and commands; its address otherwise.'),
    port: sshPort.optional().describe('Port of its sshd.'),
    user: loginUser.optional().describe('Account on it.'),
    identity: SecretReference.optional().describe('Private key that logs in there.'),
    sftp: sftp.optional().describe('How SFTP is reached there.'),
    haproxy: section(haproxyKeys, haproxyExpected)
      .optional()
      .describe("Its sockets, each in the place of the pool's."),
    verify: section(
      {
        connect: verifyKeys.connect.optional(),
        handshakes: verifyKeys.handshakes.optional(),
        timeout: verifyKeys.timeout.optional(),
        through: verifyKeys.through.optional(),
      },
      verifyExpected,
    )
      .optional()
      .describe("Where and how it is verified, each key in the place of the pool's."),
  },
  { expected: '{ host: ADDRESS } with what differs from the pool' },
);

const Host = z.union(
  [
    parsed(HOST_EXPECTED, parseEndpoint).transform((endpoint): z.output<typeof HostSettings> => endpoint),
    HostSettings,
  ],
  {
    error: ({ input }) => {
      const endpoint = typeof input === 'string' ? parseEndpoint(input) : undefined;
      if (endpoint !== undefined && 'problem' in endpoint) return endpoint.problem;
      return `expected ${HOST_EXPECTED}, or { host: ADDRESS } with what differs from the pool`;
    },
  },
);

const HOSTS_EXPECTED = `expected a list of hosts, such as [10.0.0.11, "10.0.0.12:2985"], or ${DISCOVERY_EXPECTED}`;

/** `pools.NAME`. */
export const Pool = section(
  {
    hosts: z
      .union(
        [
          z
            .array(Host, { error: HOSTS_EXPECTED })
            .min(1, 'expected at least one host, or where they are learned from'),
          Discovery,
        ],
        {
          error: ({ input }) => (Array.isArray(input) ? 'expected at least one host' : HOSTS_EXPECTED),
        },
      )
      .optional()
      .describe("Addresses of the hosts' sshd, or where they are learned from. A local pool needs none."),
    local: flag().prefault(false).describe('HAProxy runs on this very machine: no SSH.'),
    ssh: Ssh.optional().describe('How to log in. Required unless the pool is local.'),
    haproxy: Haproxy.describe("HAProxy's sockets; at least one."),
    verify: Verify.prefault({}).describe('Where and how a deployed bundle is verified.'),
    reload: Reload.optional(),
    maintenanceWindow: Maintenance.optional(),
    parallel: whole(1, 100).prefault(10).describe('Hosts that are changed side by side after the first one.'),
    stopAfter: whole(1, 1000)
      .prefault(3)
      .describe('So many hosts that do not verify after the first one did halt a rollout for the others.'),
  },
  {
    expected: 'a pool: hosts, ssh, haproxy, verify',
    later: {
      jump: 'it stands in ssh: { jump: ... }',
      overrides: 'what is different about a host stands with it, as { host: ADDRESS, port: 2222 }',
    },
  },
);

/** An entry of `deployments`. */
export const Deployment = section(
  {
    certificate: z
      .string({ error: 'expected the name of a certificate' })
      .describe('Name of the certificate.'),
    pool: z.string({ error: 'expected the name of a pool' }).describe('Name of the pool it goes to.'),
    path: perFamily(haproxyPath('/etc/haproxy/certificates/haproxy.pem'), 'PATH').describe(
      'The name HAProxy knows the bundle by: the argument of `crt`.',
    ),
    file: perFamily(absolutePath('/srv/certificates/haproxy.pem'), 'PATH')
      .optional()
      .describe('The same file as the SSH side sees it, where that differs from `path`.'),
    copies: perFamily(
      z.array(absolutePath('/etc/kolla/haproxy/haproxy.pem'), { error: 'expected a list of paths' }),
      '[PATH]',
    )
      .prefault([])
      .describe('More files to keep equal to it, as the SSH side sees them.'),
    crtList: haproxyPath('/etc/haproxy/crt-list.txt')
      .optional()
      .describe('The crt-list that names it (`bind ... ssl crt-list`), where no `crt` argument does.'),
    crtListFile: absolutePath('/srv/haproxy/crt-list.txt')
      .optional()
      .describe('The same list as the SSH side sees it, where that differs from `crtList`.'),
    mode: text('"0600", "0640", "0400" or "0440", in quotes: the file holds a private key', /^0[46][04]0$/)
      .prefault('0600')
      .describe('Permission bits of the file, in octal.'),
    owner: ownerId('a user id', 'id -u haproxy').optional().describe('User id that owns the file.'),
    group: ownerId('a group id', 'id -g haproxy').optional().describe('Group id of the file.'),
    takeOver: flag().prefault(false).describe('Replace also a valid certificate that is not from kacme.'),
  },
  {
    expected: 'a deployment: certificate, pool, path',
  },
);

/** SFTP version 3 knows owners by number only. */
function ownerId(what: string, command: string) {
  const error = `expected ${what} as a number, as \`${command}\` prints it on the host`;
  return z.int({ error }).min(0, error).max(4_294_967_294, error);
}
