import * as z from 'zod';
import { type Parsed, parseEndpoint } from './address.ts';
import {
  absolutePath,
  addressAlone,
  duration,
  oneOf,
  parsed,
  SecretReference,
  section,
  text,
  whole,
} from './fields.ts';

export const loginUser = text('the name of a user', /^[A-Za-z_][\w.-]*\$?$/);
export const sshPort = whole(1, 65_535);

export const sftp = z.union(
  [
    oneOf(['subsystem']),
    section(
      {
        exec: absolutePath('/usr/lib/openssh/sftp-server').describe('Path of an sftp-server on the hosts.'),
      },
      { expected: '{ exec: PATH }' },
    ),
  ],
  { error: 'expected subsystem, or { exec: PATH } with the path of an sftp-server on the hosts' },
);

/** Nobody has more; each one takes its time. */
const MOST_JUMPS = 4;
const JUMPS_EXPECTED = 'expected one to four jump hosts';
const JUMP_EXPECTED = 'a jump host: "user@bastion.example.org:22", or { host: ADDRESS }';

/** A jump host; what is not given is that of the pool, except for the port. */
const JumpSettings = section(
  {
    host: addressAlone('bastion.example.org').describe('Address of its sshd.'),
    port: sshPort.prefault(22).describe('Port of its sshd.'),
    user: loginUser.optional().describe('Account on it.'),
    identity: SecretReference.optional().describe('Private key that logs in there.'),
    knownHosts: absolutePath('/etc/kacme/known_hosts').optional().describe('Where its host key is pinned.'),
  },
  { expected: JUMP_EXPECTED },
);

/** Reads `host`, `host:port`, `user@host` and `user@host:port`. */
function parseJump(text: string): Parsed<z.output<typeof JumpSettings>> {
  const at = text.lastIndexOf('@');
  const user = at === -1 ? undefined : text.slice(0, at);
  if (user !== undefined && !loginUser.safeParse(user).success)
    return { problem: 'expected the name of a user before the @' };
  const endpoint = parseEndpoint(text.slice(at + 1));
  if ('problem' in endpoint) return endpoint;
  const { host, port = 22 } = endpoint.value;
  return { value: { host, port, ...(user === undefined ? {} : { user }) } };
}

function jumpProblem(text: string): string {
  const jump = parseJump(text);
  return 'problem' in jump ? jump.problem : `expected ${JUMP_EXPECTED}`;
}

const JumpText = parsed(JUMP_EXPECTED, parseJump);

const Jump = z.union([JumpText, JumpSettings], {
  error: ({ input }) => (typeof input === 'string' ? jumpProblem(input) : `expected ${JUMP_EXPECTED}`),
});

export const Ssh = section(
  {
    user: loginUser.describe('Account on the hosts.'),
    port: sshPort.prefault(22).describe('Port of sshd, for hosts that are given without one.'),
    identity: SecretReference.describe('Private key that logs in.'),
    knownHosts: absolutePath('/etc/kacme/known_hosts').describe(
      'The pinned host keys, in the format of sshd(8); a host that is not in it is refused.',
    ),
    connectTimeout: duration({ min: '100ms', max: '5m' })
      .prefault('10s')
      .describe('Bound of connection, handshake and login together.'),
    sftp: sftp
      .prefault('subsystem')
      .describe('How SFTP is reached: the subsystem of sshd, or an sftp-server that is executed.'),
    jump: z
      .union([JumpText, JumpSettings, z.array(Jump).min(1, JUMPS_EXPECTED).max(MOST_JUMPS, JUMPS_EXPECTED)], {
        error: ({ input }) =>
          Array.isArray(input)
            ? JUMPS_EXPECTED
            : typeof input === 'string'
              ? jumpProblem(input)
              : `expected ${JUMP_EXPECTED}, or a list of these`,
      })
      .optional()
      .describe('What the hosts are reached through, the nearest one first; directly otherwise.'),
  },
  { expected: 'the way into the hosts: user, identity, knownHosts' },
);
