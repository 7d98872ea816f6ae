import { pino } from 'pino';
import { connectCertificateAuthorities } from '../../src/acme/certificate-authority.ts';
import type { IssuerSpec, KeyType } from '../../src/domain/model.ts';
import { startChallengeServer } from '../../src/http/challenge-server.ts';
import { createPki } from '../../src/pki/pki.ts';
import type { CertificateAuthority, Order } from '../../src/ports/certificate-authority.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { EffectOptions } from '../../src/ports/leadership.ts';
import { realClock } from '../contract/real-clock.ts';
import { heldMandate } from '../support/mandate.ts';
import { type PebbleOptions, startPebble, type TestPebble } from '../support/pebble.ts';

/** One line of kacme's debug log for a request to the CA. */
export interface LoggedRequest {
  readonly resource: string;
  readonly method: string;
  readonly url: string;
  readonly status?: number;
  readonly durationMs: number;
  readonly result: string;
  readonly problem?: string;
}

export interface AcmeLab extends AsyncDisposable {
  readonly pebble: TestPebble;
  readonly issuer: IssuerSpec;
  /** By token: what the challenge server hands out. */
  readonly challenges: Map<string, string>;
  /** Tokens that were fetched. */
  readonly served: Set<string>;
  close(): Promise<void>;
}

/** Pebble, and kacme's own challenge server where Pebble's validation looks for one: at the address of names, or another. */
export async function startAcmeLab({
  challengeAddress,
  ...options
}: PebbleOptions & { readonly challengeAddress?: string } = {}): Promise<AcmeLab> {
  const pebble = await startPebble(options);
  const challenges = new Map<string, string>();
  const served = new Set<string>();
  const server = await startChallengeServer(
    {
      listen: { host: challengeAddress ?? pebble.address, port: pebble.httpPort },
      lookup: async (token) => challenges.get(token),
      onServed: (token) => served.add(token),
      log: pino({ level: 'silent' }),
    },
    { signal: AbortSignal.timeout(5_000) },
  );
  const close = async () => {
    await server.close();
    await pebble.close();
  };
  const issuer = issuerSpec(pebble.directoryUrl, { caFile: pebble.caFile });
  return { pebble, issuer, challenges, served, close, [Symbol.asyncDispose]: close };
}

export function issuerSpec(directory: string, overrides: Partial<IssuerSpec> = {}): IssuerSpec {
  return {
    name: 'test',
    directory,
    contact: ['mailto:ops@example.org'],
    termsOfServiceAgreed: true,
    profile: undefined,
    preferredChain: undefined,
    eab: undefined,
    caFile: undefined,
    proxy: undefined,
    timeoutMs: 10_000,
    limits: {},
    stagingFirst: undefined,
    ...overrides,
  };
}

export interface Connection {
  readonly authority: CertificateAuthority;
  /** Every request so far. */
  readonly requests: readonly LoggedRequest[];
  readonly results: readonly string[];
  /** Connects to the issuer once more, as after a failed registration or a reload. */
  again(): Promise<CertificateAuthority>;
  close(): Promise<void>;
}

export async function connect(
  issuer: IssuerSpec,
  options: { keyPem?: string; secret?: string | (() => string); clock?: Clock } = {},
): Promise<Connection> {
  const requests: LoggedRequest[] = [];
  const results: string[] = [];
  const log = pino(
    { level: 'debug' },
    {
      write: (line) => {
        const entry = JSON.parse(line);
        if (entry.msg === 'ACME request') requests.push(entry);
      },
    },
  );
  const authorities = connectCertificateAuthorities({
    clock: options.clock ?? realClock,
    log,
    version: '0.0.0',
    readSecret: async () =>
      typeof options.secret === 'function' ? options.secret() : (options.secret ?? ''),
    onRequest: (_issuer, result) => results.push(result),
  });
  const keyPem = options.keyPem ?? (await createPki().generateKey('ecdsa-p256'));
  const authority = await authorities.connect(issuer, keyPem);
  const again = () => authorities.connect(issuer, keyPem);
  return { authority, requests, results, again, close: authorities.close };
}

export const effect = (signal: AbortSignal): EffectOptions => ({ signal, mandate: heldMandate() });

export interface Obtained {
  readonly order: Order;
  readonly chainPem: string;
  readonly keyPem: string;
}

/** From order to chain, as kacme issues; `replaces` goes into the order. */
export async function obtain(
  lab: AcmeLab,
  authority: CertificateAuthority,
  identifiers: readonly string[],
  options: EffectOptions & { readonly replaces?: string },
  keyType: KeyType = 'ecdsa-p256',
): Promise<Obtained> {
  const keyPem = await createPki().generateKey(keyType);
  await authority.ensureAccount(options);
  let order = await authority.newOrder(identifiers, options);
  await Promise.all(order.authorizations.map((url) => authorize(lab, authority, url, options)));
  order = await authority.awaitOrder(order.url, options);
  if (order.status === 'ready') order = await authority.finalize(order, { keyPem, identifiers }, options);
  if (order.status === 'processing') order = await authority.awaitOrder(order.url, options);
  if (order.certificate === undefined) throw new Error(`the order is ${order.status}: ${order.error}`);
  const { chainPem } = await authority.certificate(order.certificate, options);
  return { order, keyPem, chainPem };
}

async function authorize(
  lab: AcmeLab,
  authority: CertificateAuthority,
  url: string,
  options: EffectOptions,
): Promise<void> {
  const { status, http01 } = await authority.authorization(url, options);
  if (status === 'valid') return;
  if (http01 === undefined) throw new Error(`no http-01 for ${url}`);
  lab.challenges.set(http01.token, http01.keyAuthorization);
  await authority.respond(http01.url, options);
  const judged = await authority.awaitAuthorization(url, options);
  if (judged.status !== 'valid') throw new Error(`${judged.identifier} is ${judged.status}: ${judged.error}`);
}
