import { formatEndpoint } from '../../config/address.ts';
import type { DeploymentSpec, HostSpec, KacmeConfig, PoolSpec } from '../../domain/model.ts';

export interface SnippetRequest {
  readonly pool: PoolSpec;
  /** Whose own address the verification frontend is bound to. */
  readonly host: HostSpec;
  readonly deployments: readonly DeploymentSpec[];
  readonly challenge: KacmeConfig['challenge'];
}

/**
 * What haproxy.cfg of one host needs for kacme (HAProxy's configuration manual, sections 3.1 and 4.2), to be merged with
 * what is there. Comments say what depends on the site.
 */
export function haproxySnippet(request: SnippetRequest): string {
  const { pool, host } = request;
  return [
    `# For kacme, pool ${pool.name}, host ${host.name}: merge it with what haproxy.cfg holds already.`,
    ...globalSection(pool),
    '',
    ...httpFrontend(request),
    '',
    ...tlsFrontend(request),
    ...verificationFrontends(request),
    '',
    ...backend(request),
    '',
  ].join('\n');
}

function globalSection({ haproxy }: PoolSpec): readonly string[] {
  const { socket, masterSocket } = haproxy;
  const lines = socket === undefined ? [] : ['', 'global', `    stats socket ${socket} mode 660 level admin`];
  if (socket !== undefined)
    lines.push("    # Give it the group that kacme's account on this host is in: append `group NAME`.");
  if (masterSocket !== undefined)
    lines.push('', `# Start HAProxy with its master CLI: haproxy -W -S ${masterSocket},mode,660 ...`);
  return lines;
}

function httpFrontend({ challenge }: SnippetRequest): readonly string[] {
  return [
    `# HTTP-01: what the CA asks for on port 80 goes to kacme at ${formatEndpoint(challenge.listen)}, ahead of any redirect.`,
    'frontend http',
    '    mode http',
    '    bind :80',
    '    acl kacme_challenge path_beg /.well-known/acme-challenge/',
    '    http-request redirect scheme https unless kacme_challenge',
    '    use_backend kacme if kacme_challenge',
  ];
}

function tlsFrontend({ deployments }: SnippetRequest): readonly string[] {
  return [
    '# Each path letter for letter as kacme has it: it is the name by which HAProxy knows the certificate.',
    '#frontend https',
    `#    bind :443 ssl ${crtArguments(deployments)}`,
  ];
}

/** One for each port of `{host}` in verify.connect that is not the one that everybody asks. */
function verificationFrontends({ pool, host, deployments }: SnippetRequest): readonly string[] {
  const ports = pool.verify.connect
    .filter((template) => template.startsWith('{host}:'))
    .map((template) => Number(template.slice('{host}:'.length)))
    .filter((port) => port !== 443);
  return ports.flatMap((port) => [
    '',
    "# kacme asks each host for its certificate here, on the host's own address: a virtual one leads to whoever holds it.",
    `frontend kacme_verify_${port}`,
    '    mode http',
    `    bind ${formatEndpoint({ host: host.address, port })} ssl ${crtArguments(deployments)}`,
    '    http-request deny',
  ]);
}

function backend({ challenge }: SnippetRequest): readonly string[] {
  const { listen } = challenge;
  const everywhere = listen.host === '0.0.0.0' || listen.host === '::';
  const hint = everywhere
    ? [`    # kacme listens at every address: put in place of ${listen.host} one that this host reaches.`]
    : [];
  return ['backend kacme', '    mode http', ...hint, `    server kacme ${formatEndpoint(listen)}`];
}

const crtArguments = (deployments: readonly DeploymentSpec[]): string =>
  [...new Set(deployments.map(({ path }) => path))].map((path) => `crt ${path}`).join(' ');
