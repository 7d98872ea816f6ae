import * as z from 'zod';
import { duration, oneOf, section } from './fields.ts';

const MASTER_SOCKET = 'masterSocket';

function command(what: string, example: string) {
  const expected = `expected the arguments of a command as a list, such as [${example}]: no shell reads them`;
  const argument = z
    .string({ error: 'expected text: quote numbers' })
    // No pattern: editors that read the schema do not all know Unicode properties.
    .refine((text) => !/\p{Cc}/u.test(text), 'an argument holds no control characters');
  return z
    .array(argument, { error: expected })
    .min(1, expected)
    .refine(([program]) => program !== '', { error: expected })
    .describe(what);
}

/** `pools.NAME.reload`. */
export const Reload = z
  .union(
    [
      oneOf([MASTER_SOCKET, 'off']),
      section(
        {
          command: command(
            "Makes HAProxy reload; the master socket does it without one. {host} stands for the host's address.",
            'docker, kill, -s, USR2, haproxy',
          ).optional(),
          on: oneOf(['host', 'kacme'])
            .prefault('host')
            .describe('Where these commands run: on the host, or where kacme runs.'),
          prepare: command(
            'Brings a changed configuration to where HAProxy reads it, before `kacme reload` validates it.',
            'docker, exec, haproxy, sudo, kolla_set_configs',
          ).optional(),
          validate: command(
            'Checks the configuration before each reload; where it fails, HAProxy is not reloaded.',
            'haproxy, -c, -f, /etc/haproxy/haproxy.cfg',
          ).optional(),
          timeout: duration({ min: '1s', max: '10m' })
            .prefault('30s')
            .describe('Bound of each command, and of the wait for the new worker.'),
        },
        { expected: 'how HAProxy is reloaded: { command: [...] }' },
      ),
    ],
    { error: `expected ${MASTER_SOCKET}, off, or { command: [...] } with the arguments of a command` },
  )
  .describe('How HAProxy is reloaded where a hot swap cannot be done.');
