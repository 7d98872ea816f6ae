import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { freePort, loopbackAddress } from './net.ts';
import { testCa } from './pem.ts';
import { type RunningProcess, startProcess } from './process.ts';
import { programs } from './programs.ts';
import { scratchDirectory } from './scratch.ts';

export interface PebbleOptions {
  /** Where CA and DNS listen; a random one of this machine otherwise. */
  readonly address?: string;
  /** Where its validation connects to on each name's address; a free port otherwise. */
  readonly httpPort?: number;
  /** The A record of names that `setAddresses` did not set. */
  readonly defaultAddress?: string;
  /** Percent of good nonces that are refused all the same; 0. */
  readonly rejectNonces?: number;
  /** Percent of authorizations that are used again; Pebble's own 50 when not given. */
  readonly reuseAuthorizations?: number;
  /** What Retry-After says, in seconds; 0. Ignored by Debian 12's Pebble (2.4), which never sends it. */
  readonly retryAfterSeconds?: number;
  /** External account binding is demanded: MAC keys (base64url) by key id. */
  readonly externalAccounts?: Readonly<Record<string, string>>;
  /** A Pebble that offers renewal information (ARI). */
  readonly renewalInfo?: boolean;
  /** Lifetime of what it issues; Pebble's own five years when not given. */
  readonly lifetimeSeconds?: number;
  /** Names it refuses to issue for. */
  readonly blockedNames?: readonly string[];
  /** More variables, such as PEBBLE_ALTERNATE_ROOTS. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface TestPebble extends AsyncDisposable {
  readonly directoryUrl: string;
  /** PEM of the CA that signed its HTTPS certificate (not of the certificates it issues). */
  readonly caFile: string;
  readonly httpPort: number;
  readonly address: string;
  readonly running: boolean;
  output(): string;
  /** `address:port` of its DNS (UDP and TCP). */
  readonly dns: string;
  /** The A and AAAA records of one name; IPv6 addresses are told by their colons. */
  setAddresses(name: string, addresses: readonly string[]): Promise<void>;
  /** The CAA records of one name, flags 0. */
  setCaa(name: string, policies: readonly { readonly tag: string; readonly value: string }[]): Promise<void>;
  /** Undefined takes the alias away. */
  setAlias(name: string, target: string | undefined): Promise<void>;
  /** Answers every question about the name with SERVFAIL; `fail: false` ends that. */
  failLookups(name: string, fail?: boolean): Promise<void>;
  /** PEM of the root that signs what it issues (another one after each start), or of an alternate one. */
  issuingRoot(index?: number): Promise<string>;
  /** Ends the CA; its DNS stays. */
  stop(): Promise<void>;
  /** The same address; accounts and orders are forgotten. */
  start(): Promise<void>;
  /** Connections are accepted, nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Ends everything and removes its files. */
  close(): Promise<void>;
}

/** A real ACME server (Pebble) with a DNS of its own. Validation is never skipped. */
export async function startPebble(options: PebbleOptions = {}): Promise<TestPebble> {
  const scratch = await scratchDirectory();
  const address = options.address ?? loopbackAddress();
  const httpPort = options.httpPort ?? (await freePort(address));
  const [acmePort, managementPort, dnsPort, dnsManagementPort] = [
    await freePort(address),
    await freePort(address),
    await freePort(address),
    await freePort(address),
  ];
  const caFile = join(scratch.path, 'ca.pem');
  const configPath = join(scratch.path, 'pebble.json');
  const [certificate, privateKey] = [join(scratch.path, 'https.pem'), join(scratch.path, 'https.key')];
  const ca = testCa('Pebble HTTPS');
  const https = ca.issue([address, 'localhost']);
  await writeFile(caFile, ca.certPem);
  await writeFile(certificate, https.certPem);
  await writeFile(privateKey, https.keyPem, { mode: 0o600 });
  const pebbleConfig = {
    listenAddress: `${address}:${acmePort}`,
    managementListenAddress: `${address}:${managementPort}`,
    certificate,
    privateKey,
    httpPort,
    tlsPort: httpPort,
    ocspResponderURL: '',
    externalAccountBindingRequired: options.externalAccounts !== undefined,
    externalAccountMACKeys: options.externalAccounts ?? {},
    domainBlocklist: options.blockedNames ?? [],
    ...(options.lifetimeSeconds === undefined ? {} : { certificateValidityPeriod: options.lifetimeSeconds }),
    retryAfter: { authz: options.retryAfterSeconds ?? 0, order: options.retryAfterSeconds ?? 0 },
  };
  await writeFile(configPath, JSON.stringify({ pebble: pebbleConfig }));

  const dns = await startDns({ address, dnsPort, dnsManagementPort }, options, scratch.path);
  let server: RunningProcess | undefined;
  const start = async () => {
    if (server !== undefined) return;
    const { pebble, pebbleWithAri, env } = programs();
    server = await startProcess({
      name: 'pebble',
      command: options.renewalInfo === true ? pebbleWithAri : pebble,
      args: ['-config', configPath, '-strict=false', '-dnsserver', `${address}:${dnsPort}`],
      env: { ...env, ...pebbleEnvironment(options) },
      cwd: scratch.path,
      ready: (output) => output.includes('ACME directory available at'),
    });
  };
  const stop = async () => {
    await server?.stop();
    server = undefined;
  };
  const close = async () => {
    await stop();
    await dns.stop();
    await scratch.remove();
  };
  const pebble: TestPebble = {
    directoryUrl: `https://${address}:${acmePort}/dir`,
    caFile,
    httpPort,
    address,
    get running() {
      return server !== undefined;
    },
    output: () => server?.output() ?? '',
    dns: `${address}:${dnsPort}`,
    ...dnsRecords(`http://${address}:${dnsManagementPort}`),
    issuingRoot: (index = 0) => httpsGet(`https://${address}:${managementPort}/roots/${index}`, ca.certPem),
    stop,
    start,
    freeze: () => server?.signal('SIGSTOP'),
    thaw: () => server?.signal('SIGCONT'),
    close,
    [Symbol.asyncDispose]: close,
  };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return pebble;
}

function pebbleEnvironment(options: PebbleOptions): Record<string, string> {
  return {
    PEBBLE_VA_NOSLEEP: '1',
    PEBBLE_WFE_NONCEREJECT: String(options.rejectNonces ?? 0),
    ...(options.reuseAuthorizations === undefined
      ? {}
      : { PEBBLE_AUTHZREUSE: String(options.reuseAuthorizations) }),
    ...options.env,
  };
}

interface DnsPlace {
  readonly address: string;
  readonly dnsPort: number;
  readonly dnsManagementPort: number;
}

function startDns(place: DnsPlace, options: PebbleOptions, cwd: string): Promise<RunningProcess> {
  const { challtestsrv, env } = programs();
  const { address, dnsPort, dnsManagementPort } = place;
  const off = ['-http01', '', '-https01', '', '-tlsalpn01', '', '-defaultIPv6', ''];
  const records = ['-defaultIPv4', options.defaultAddress ?? address];
  return startProcess({
    name: 'pebble-challtestsrv',
    command: challtestsrv,
    args: [
      ...off,
      ...records,
      '-dns01',
      `${address}:${dnsPort}`,
      '-management',
      `${address}:${dnsManagementPort}`,
    ],
    env,
    cwd,
    ready: async () => {
      try {
        await fetch(`http://${address}:${dnsManagementPort}/`);
        return true;
      } catch {
        return false; // Not listening yet.
      }
    },
  });
}

function dnsRecords(
  management: string,
): Pick<TestPebble, 'setAddresses' | 'setCaa' | 'setAlias' | 'failLookups'> {
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${management}${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!response.ok)
      throw new Error(`pebble-challtestsrv ${path}: ${response.status} ${await response.text()}`);
  };
  return {
    setAddresses: async (name, addresses) => {
      const host = `${name}.`;
      const isIpv6 = (address: string) => address.includes(':');
      await post('/clear-a', { host });
      await post('/clear-aaaa', { host });
      const [ipv4, ipv6] = [addresses.filter((address) => !isIpv6(address)), addresses.filter(isIpv6)];
      if (ipv4.length > 0) await post('/add-a', { host, addresses: ipv4 });
      if (ipv6.length > 0) await post('/add-aaaa', { host, addresses: ipv6 });
    },
    setCaa: async (name, policies) => {
      await post('/clear-caa', { host: `${name}.` });
      if (policies.length > 0) await post('/add-caa', { host: `${name}.`, policies });
    },
    setAlias: (name, target) =>
      target === undefined
        ? post('/clear-cname', { host: `${name}.` })
        : post('/set-cname', { host: `${name}.`, target: `${target}.` }),
    failLookups: (name, fail = true) =>
      post(fail ? '/set-servfail' : '/clear-servfail', { host: `${name}.` }),
  };
}

function httpsGet(url: string, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request(url, { ca, agent: false }, (response) => text(response).then(resolve, reject))
      .on('error', reject)
      .end();
  });
}

/**
 * Whether Pebble finds the order of a certificate when another names it in `replaces`: it does not where DER begins the
 * serial number with a zero octet, which RFC 9773 section 4.1 wants in the name; one of 256 is so.
 */
export const pebbleCanReplace = (bundlePem: string): boolean =>
  Number.parseInt(new X509Certificate(bundlePem).serialNumber.slice(0, 2), 16) < 0x80;
