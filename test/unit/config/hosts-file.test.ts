import { expect, test } from 'vitest';
import { parseHosts } from '../../../src/config/hosts-file.ts';

const parse = (text: string) => parseHosts(text, { path: '/hosts', port: 22 });
const hostsIn = (text: string) => parse(text).hosts.map(({ address, port }) => `${address} ${port}`);

test.each([
  { what: 'an address', text: '10.0.0.11\n', hosts: ['10.0.0.11 22'] },
  { what: 'a port', text: '10.0.0.11:2985', hosts: ['10.0.0.11 2985'] },
  { what: 'IPv6', text: 'FD00::0013\n[fd00::14]:2985\n', hosts: ['fd00::13 22', 'fd00::14 2985'] },
  { what: 'a name', text: 'LB1.example.org', hosts: ['lb1.example.org 22'] },
  { what: 'comments and space', text: '# all\r\n\r\n  10.0.0.11\t# first\r\n', hosts: ['10.0.0.11 22'] },
  { what: 'the same host twice', text: '10.0.0.11\n10.0.0.11:22\n', hosts: ['10.0.0.11 22'] },
  { what: 'nothing', text: '', hosts: [] },
])('a file of hosts may hold $what', ({ text, hosts }) => {
  expect(hostsIn(text)).toEqual(hosts);
  expect(parse(text).mistakes).toEqual([]);
});

test('each malformed line is named with its place', () => {
  expect(parse('10.0.0.11\n  10.0.0.256\n10.0.0.12 10.0.0.13\n10.0.0.14:0\n').mistakes).toEqual([
    '/hosts:2:3: neither an IP address nor a host name',
    '/hosts:3:1: neither an IP address nor a host name',
    '/hosts:4:1: a port is a number from 1 to 65535',
  ]);
});
