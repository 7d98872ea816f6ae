import { existsSync } from 'node:fs';
import { labDirectory } from '../setup/lab.mjs';
import { startFleet, type TestFleet } from '../support/fleet.ts';
import { haproxyPaths } from '../support/haproxy.ts';
import type { TestHost } from '../support/host.ts';
import { startPebble, type TestPebble } from '../support/pebble.ts';
import { canHaveViews } from '../support/process.ts';
import type { Pool } from './configuration.ts';
import { chooseNetwork, type Network, portFor } from './network.ts';

/** The bundle files as Kolla names them, and who they are for. */
export const CERTIFICATES = {
  external: { names: ['cloud.example.test', 'api.cloud.example.test'], file: 'haproxy.pem' },
  internal: { names: ['internal.cloud.example.test'], file: 'haproxy-internal.pem' },
} as const;

export const ALL_NAMES: readonly string[] = Object.values(CERTIFICATES).flatMap(({ names }) => [...names]);

export interface Ports {
  readonly ssh: number;
  readonly http: number;
  readonly tls: number;
  readonly challenge: number;
  readonly operations: number;
}

/** Addresses and ports of one run, chosen before anything starts. */
export interface Plan {
  readonly network: Network;
  readonly ports: Ports;
  /** Where each host sees its own directory; undefined where the machine allows no mount namespaces. */
  readonly seenAt: string | undefined;
}

export async function makePlan(directory: string): Promise<Plan> {
  const network = chooseNetwork();
  const ports = {
    ssh: await portFor(network.hosts, 2222),
    http: await portFor(network.hosts, 8080),
    tls: await portFor(network.hosts, 8443),
    challenge: await portFor([network.kacme], 8081),
    operations: await portFor([network.kacme], 8083),
  };
  const hidesNothing = (at: string) =>
    existsSync(at) && ![directory, labDirectory()].some((path) => path.startsWith(`${at}/`));
  const seenAt = ['/srv', '/opt', '/mnt'].find((at) => hidesNothing(at) && canHaveViews({ directory, at }));
  return { network, ports, seenAt };
}

/** A CA whose DNS leads every name to the first host, as a virtual address would. */
export function startAuthority({ network, ports }: Plan): Promise<TestPebble> {
  return startPebble({ httpPort: ports.http, defaultAddress: network.hosts[0] ?? '' });
}

/** The hosts with sshd running, and HAProxy configured but stopped: there is nothing it could load yet. */
export function prepareHosts({ network, ports, seenAt }: Plan): Promise<TestFleet> {
  return startFleet(network.hosts.length, (index) => ({
    address: network.hosts[index] ?? '',
    seenAt,
    sshd: { port: ports.ssh },
    haproxy: {
      started: false,
      tlsPort: ports.tls,
      httpPort: ports.http,
      challengeBackend: `${network.kacme}:${ports.challenge}`,
      redirect: true,
      masterSocket: false,
      moreBundles: [CERTIFICATES.internal.file],
    },
  }));
}

/** Where every host sees the same, one pool lists them all; else each is a pool of its own. */
export function poolsOf({ hosts }: TestFleet, { seenAt, ports }: Plan): readonly Pool[] {
  const poolAt = (name: string, directory: string, members: readonly TestHost[]): Pool => {
    const { socketPath, certDirectory } = haproxyPaths(directory);
    return {
      name,
      hosts: members.map(({ address }) => `${address}:${ports.ssh}`),
      socket: socketPath,
      certDirectory,
    };
  };
  if (seenAt !== undefined) return [poolAt('loadbalancers', seenAt, hosts)];
  return hosts.map((host, i) => poolAt(`loadbalancer-${i + 1}`, host.directory, [host]));
}
