import { eventually } from '../support/eventually.ts';
import type { TestFleet } from '../support/fleet.ts';
import type { TestHost } from '../support/host.ts';
import type { TestPebble } from '../support/pebble.ts';
import type { Endpoint, Handshakes, Leaf } from './handshakes.ts';
import type { Kacme } from './kacme.ts';
import type { Narrator } from './narrator.ts';
import { CERTIFICATES, type Plan } from './stage.ts';
import { Unexpected } from './unexpected.ts';

export type CertificateName = keyof typeof CERTIFICATES;

/** Fingerprints of what every host presents, by certificate. */
export type Served = Readonly<Record<CertificateName, Leaf>>;

/** Everything the steps act on, once it has been set up. */
export interface Scene {
  readonly narrator: Narrator;
  readonly plan: Plan;
  readonly pebble: TestPebble;
  readonly fleet: TestFleet;
  readonly kacme: Kacme;
  readonly handshakes: Handshakes;
  readonly signal: AbortSignal;
}

const PATIENCE_MS = 30_000;

export const endpoints = (hosts: readonly TestHost[]): readonly Endpoint[] =>
  hosts.map(({ address, haproxy }) => ({ address, port: haproxy.tlsPort }));

/** Waits until each of `hosts` presents, for every name, a certificate of the CA that is not one of `old`. */
export async function newCertificatesOn(
  { handshakes, pebble, signal }: Scene,
  hosts: readonly TestHost[],
  old: Partial<Served>,
  certificates: readonly CertificateName[] = ['external', 'internal'],
): Promise<Partial<Served>> {
  const root = await pebble.issuingRoot();
  const found = await Promise.all(
    certificates.map(async (certificate) => {
      const { names } = CERTIFICATES[certificate];
      const leaf = await eventually(
        `${certificate} is new on ${hosts.map(({ address }) => address).join(', ')}`,
        async () => {
          const leaf = await handshakes.sameLeaf(endpoints(hosts), names, { root });
          if (leaf.fingerprint256 === old[certificate]?.fingerprint256)
            throw new Unexpected('the hosts still present the certificate from before');
          return leaf;
        },
        { signal, timeoutMs: PATIENCE_MS },
      );
      return [certificate, leaf] as const;
    }),
  );
  return Object.fromEntries(found);
}

/** Runs a kacme command before the reader's eyes and demands its exit status. */
export async function runKacme(
  { narrator, kacme }: Pick<Scene, 'narrator' | 'kacme'>,
  args: readonly string[],
  expected: { readonly status: number },
): Promise<void> {
  narrator.command(`kacme ${args.join(' ')}`);
  await narrator.check(
    `exit status ${expected.status}`,
    async () => {
      const { status, stdout, stderr } = await kacme.run(...args);
      if (status === expected.status) return stdout.trimEnd().split('\n').at(-1) ?? '';
      throw new Unexpected(`exit status ${status}: ${stderr.trim() || stdout.trim()}`);
    },
    (outcome) => outcome.replace(kacme.configPath, 'kacme.yaml'),
  );
}
