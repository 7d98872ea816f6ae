import * as z from 'zod';
import {
  absolutePath,
  dnsServer,
  duration,
  listen,
  named,
  oneOf,
  section,
  socketPath,
  url,
  whole,
} from './fields.ts';
import { Certificate, Issuer } from './issuance-schema.ts';
import { Deployment, Pool } from './pool-schema.ts';

const ONLY_HTTP_01 =
  'HTTP-01 is the only kind of challenge: remove it and list each name; DNS-01, and wildcards with it, are planned';
/** One host of several behind an address that does not route challenges is met sooner; each costs a request. */
export const DEFAULT_PASSES = 2;

/** `false` is what `off` is to a YAML 1.1 editor. */
const off = () =>
  z.union([oneOf(['off']), z.literal(false).transform(() => 'off' as const)], { error: 'expected off' });

const AT_LEAST_ONE_RESOLVER =
  'expected off, or a list of DNS resolvers, such as ["10.0.0.2", "[2606:4700::1111]:53"]';

const Challenge = section(
  {
    listen: listen('127.0.0.1:8081')
      .prefault('127.0.0.1:8081')
      .describe('Where HTTP-01 challenges are answered, behind HAProxy.'),
    resolvers: z
      .union([off(), z.array(dnsServer()).min(1, AT_LEAST_ONE_RESOLVER)], {
        error: AT_LEAST_ONE_RESOLVER,
      })
      .optional()
      .describe("Who is asked for addresses and CAA records before an order; the system's by default."),
    selfCheck: z
      .union(
        [
          oneOf(['direct', 'off']),
          z.literal(false).transform(() => 'off' as const),
          section(
            {
              via: url(['http', 'https'], 'http://10.0.0.10')
                .optional()
                .describe('What routes challenges to kacme.'),
              passes: whole(1, 10)
                .prefault(DEFAULT_PASSES)
                .describe('Fetches from each address, one after the other.'),
            },
            { expected: '{ via: URL, passes: NUMBER }' },
          ),
        ],
        {
          error:
            'expected direct, off, or { via: URL } with the URL of what routes challenges to kacme, and { passes: NUMBER }',
        },
      )
      .prefault('direct')
      .describe('How kacme tests that a challenge can be fetched before it asks the CA.'),
  },
  {
    expected: '{ listen: "HOST:PORT", resolvers: [...], selfCheck: ... }',
    later: { type: ONLY_HTTP_01, dns: ONLY_HTTP_01 },
  },
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
          .describe('Where health, readiness and metrics are served.'),
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
