import { existsSync } from 'node:fs';
import { haproxyPaths } from '../support/haproxy.ts';
import type { Scene } from './scene.ts';
import { CERTIFICATES } from './stage.ts';

/** Command lines with what each is good for; those whose program is not on this machine are left out. */
export function thingsToTry({
  plan,
  fleet,
  kacme,
}: Scene): readonly (readonly [purpose: string, command: string])[] {
  const { network, ports } = plan;
  const [name] = CERTIFICATES.external.names;
  const first = fleet.hosts[0];
  if (first === undefined) return [];
  const handshake = `openssl s_client -connect ${first.address}:${ports.tls} -servername ${name} </dev/null 2>&1 |`;
  const tries: readonly (readonly [purpose: string, command: string])[] = [
    ['How everything stands:', `${kacme.typed} status`],
    ['Renew one certificate now:', `${kacme.typed} renew external --force`],
    ['Lose a file of the first host, and see it return:', `rm ${haproxyPaths(first.directory).certPath}`],
    ['What kacme does and why:', `tail -f ${kacme.logPath}`],
    ['What the first host serves:', `${handshake}\n  openssl x509 -noout -issuer -dates -fingerprint`],
    ['What Prometheus gets:', `curl http://${network.kacme}:${ports.operations}/metrics`],
  ];
  return tries.filter(([, command]) => isOnPath(command.split(' ')[0] ?? ''));
}

function isOnPath(program: string): boolean {
  const { PATH = '' } = process.env;
  return PATH.split(':').some((directory) => existsSync(`${directory}/${program}`));
}
