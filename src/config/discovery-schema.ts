import * as z from 'zod';
import { isIP, parseEndpoint } from './address.ts';
import { absolutePath, dnsServer, duration, parsed, section } from './fields.ts';

export const DISCOVERY_EXPECTED =
  '{ srv: _haproxy-ssh._tcp.example.org }, { dns: haproxy.example.org } or { file: /etc/kacme/hosts }';

/** A name to ask DNS for; labels may begin with an underscore, as those of SRV records do. */
const dnsName = (example: string) =>
  parsed(`a DNS name, such as ${example}`, (text) => {
    const endpoint = parseEndpoint(text);
    if ('problem' in endpoint) return { problem: `expected a DNS name, such as ${example}` };
    const { host, port } = endpoint.value;
    if (port !== undefined) return { problem: 'expected a DNS name without a port' };
    if (isIP(host)) return { problem: 'expected a DNS name: an address stands in a list, as [10.0.0.11]' };
    return { value: host };
  });

/** `pools.NAME.hosts` that is no list; that exactly one of dns, srv and file is given, the rules say. */
export const Discovery = section(
  {
    dns: dnsName('haproxy.example.org').optional().describe('A name whose A and AAAA records are the hosts.'),
    srv: dnsName('_haproxy-ssh._tcp.example.org')
      .optional()
      .describe("A name whose SRV records name the hosts' sshd, target and port."),
    file: absolutePath('/etc/kacme/hosts')
      .optional()
      .describe('A file with one host a line, which is watched.'),
    refresh: duration({ min: '1s', max: '1h' })
      .optional()
      .describe('Time between two looks at DNS; 1m by default.'),
    resolvers: z
      .array(dnsServer(), { error: 'expected a list of DNS resolvers, such as ["10.0.0.2"]' })
      .min(1, 'expected at least one DNS resolver, such as ["10.0.0.2"]')
      .optional()
      .describe("Who is asked about them; the system's resolvers by default."),
  },
  { expected: `where the hosts are learned from: ${DISCOVERY_EXPECTED}` },
);
