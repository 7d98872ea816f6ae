import { once } from 'node:events';
import { createServer as createHttpServer, request, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { type ControllerSpec, type KollaOptions, prepareKolla, type TestKolla } from './ansible.ts';
import { freePort, loopbackAddress } from './net.ts';

export interface CloudOptions {
  /** With fluentd and Prometheus. */
  readonly telling?: boolean;
  readonly controllers?: number;
  readonly oneVip?: boolean;
  readonly ansibleCore?: KollaOptions['ansibleCore'];
  readonly groups?: KollaOptions['groups'];
  readonly globals?: Readonly<Record<string, unknown>>;
}

/** A cloud of stand-ins on loopback addresses and free ports, in which the sshd beside each HAProxy seems to run. */
export interface TestCloud extends AsyncDisposable {
  readonly kolla: TestKolla;
  readonly controllers: readonly ControllerSpec[];
  readonly internalVip: string;
  readonly externalVip: string;
  readonly httpPort: number;
  /** What kacme would answer to a challenge. */
  readonly answer: string;
  /** Ends what stands in for kacme and the sidecars, so that real ones can have their ports. */
  makeRoom(): Promise<void>;
  /** Brings it back. */
  standIn(): Promise<void>;
}

export async function startCloud(options: CloudOptions = {}): Promise<TestCloud> {
  const controllers = Array.from({ length: options.controllers ?? 1 }, (_, index) => ({
    name: `ctl${index + 1}`,
    address: loopbackAddress(),
  }));
  const first = controllers[0]?.address ?? '';
  const internalVip = loopbackAddress();
  const externalVip = options.oneVip ? internalVip : loopbackAddress();
  const [httpPort, httpsPort, monitorPort, singlePort, sshPort, verifyPort, challengePort] =
    await Promise.all([
      freePort(internalVip),
      freePort(internalVip),
      freePort(first),
      freePort(externalVip),
      freePort(first),
      freePort(first),
      freePort(first),
    ]);
  const answer = `token.${httpPort}`;
  const answering = (_: unknown, response: ServerResponse) =>
    // A connection that is kept open would keep the server, too.
    response.setHeader('connection', 'close').end(answer);
  const hangUp = (socket: Socket) => socket.destroy();
  const servers: Server[] = [];
  const standIn = async () => {
    for (const [port, address] of [
      ...controllers.map(({ address }) => [sshPort, address] as const),
      [challengePort, first] as const,
    ]) {
      const server = port === challengePort ? createHttpServer(answering) : createServer(hangUp);
      servers.push(server.listen(port, address));
      await once(server, 'listening');
    }
  };
  const globals = {
    standin_internal_vip: internalVip,
    standin_external_vip: externalVip,
    standin_http_port: String(httpPort),
    standin_https_port: String(httpsPort),
    standin_monitor_port: String(monitorPort),
    standin_single_port: String(singlePort),
    kacme_http_port: String(httpPort),
    kacme_challenge_port: String(challengePort),
    kacme_ssh_port: String(sshPort),
    kacme_verify_port: String(verifyPort),
    kolla_internal_fqdn: options.oneVip ? 'cloud.test' : 'internal.cloud.test',
    kolla_external_fqdn: 'cloud.test',
    kolla_enable_tls_internal: true,
    kolla_enable_tls_external: true,
    kacme_acme_contact: ['ops@cloud.test'],
    kacme_acme_terms_of_service_agreed: true,
    // What nobody looks at takes time to render.
    ...(options.telling === true ? {} : { enable_fluentd: false, enable_prometheus: false }),
    ...options.globals,
  };
  const kolla = await prepareKolla({
    controllers,
    globals,
    ansibleCore: options.ansibleCore,
    ...(options.groups === undefined ? {} : { groups: options.groups }),
  });
  const makeRoom = async () => {
    await Promise.all(servers.splice(0).map((server) => new Promise((done) => server.close(done))));
  };
  await standIn();
  return {
    kolla,
    controllers,
    internalVip,
    externalVip,
    httpPort,
    answer,
    makeRoom,
    standIn,
    [Symbol.asyncDispose]: async () => {
      await makeRoom();
      await kolla[Symbol.asyncDispose]();
    },
  };
}

/** Asks as a CA does; follows nothing. */
export function askForChallenge(
  address: string,
  port: number,
): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: address, port, path: '/.well-known/acme-challenge/token', agent: false },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          body += text;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      },
    );
    asked.once('error', reject);
    asked.end();
  });
}
