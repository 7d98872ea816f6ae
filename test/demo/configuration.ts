/** Hosts that find their files at the same path. */
export interface Pool {
  readonly name: string;
  /** `address:port` of each sshd. */
  readonly hosts: readonly string[];
  readonly socket: string;
  readonly certDirectory: string;
}

export interface ConfigurationFacts {
  readonly directoryUrl: string;
  readonly caFile: string;
  readonly certificates: Readonly<
    Record<string, { readonly names: readonly string[]; readonly file: string }>
  >;
  readonly pools: readonly Pool[];
  readonly ssh: { readonly user: string; readonly identity: string; readonly knownHosts: string };
  readonly tlsPort: number;
  readonly challengeListen: string;
  /** `address:port` of what resolves the names. */
  readonly dns: string;
  readonly challengeVia: string;
  readonly operationsListen: string;
  readonly stateDirectory: string;
}

/** The whole configuration of the demo's kacme, as an operator would write it. */
export function renderConfiguration(facts: ConfigurationFacts): string {
  const certificates = Object.entries(facts.certificates);
  return [
    'issuers:',
    '  pebble:',
    `    directory: ${facts.directoryUrl}`,
    `    caFile: ${facts.caFile}`,
    '    termsOfServiceAgreed: true',
    'certificates:',
    ...certificates.flatMap(([name, { names }]) => [
      `  ${name}:`,
      `    identifiers: [${names.join(', ')}]`,
      '    issuers: [pebble]',
    ]),
    'pools:',
    ...facts.pools.flatMap((pool) => renderPool(pool, facts)),
    'deployments:',
    ...facts.pools.flatMap(({ name: pool, certDirectory }) =>
      certificates.flatMap(([certificate, { file }]) => [
        `  - certificate: ${certificate}`,
        `    pool: ${pool}`,
        `    path: ${certDirectory}/${file}`,
      ]),
    ),
    'challenge:',
    `  listen: "${facts.challengeListen}"`,
    `  resolvers: ["${facts.dns}"]`,
    `  selfCheck: { via: "${facts.challengeVia}" }`,
    `operations: { listen: "${facts.operationsListen}" }`,
    'reconcile: { every: "3s" } # 20s if not given; a demo has less patience',
    `store: { file: ${facts.stateDirectory} }`,
    '',
  ].join('\n');
}

function renderPool({ name, hosts, socket }: Pool, { ssh, tlsPort }: ConfigurationFacts): readonly string[] {
  return [
    `  ${name}:`,
    `    hosts: [${hosts.map((host) => `"${host}"`).join(', ')}]`,
    '    ssh:',
    `      user: ${ssh.user}`,
    `      identity: { file: ${ssh.identity} }`,
    `      knownHosts: ${ssh.knownHosts}`,
    `    haproxy: { socket: ${socket} }`,
    `    verify: { connect: ["{host}:${tlsPort}"] }`,
  ];
}
