import { describe, expect, test } from 'vitest';
import {
  isLocked,
  readAbort,
  readBufferBytes,
  readCanAdd,
  readCertificate,
  readCertificateList,
  readCommit,
  readCrtList,
  readLevel,
  readListChange,
  readProcesses,
  readRefusal,
  readSet,
  readStopping,
  readVersion,
  splitAnswers,
} from '../../../src/haproxy/answers.ts';

// Answers of HAProxy 2.6.12, as they came.
const CERTIFICATE = `Filename: /certs/a.pem
Status: Used
Serial: 5BA945F49DBD65640A3F5F00D141DC930386A9D9
notBefore: Nov 22 14:58:17 2026 GMT
notAfter: Dec 22 14:58:17 2026 GMT
Subject Alternative Name: 
Algorithm: EC256
SHA1 FingerPrint: 047E9B1706F95DA2382634DCC09E83ADDE1C783F
Subject: /CN=b.test
Issuer: /CN=b.test
OCSP Response Key: `;

describe('what HAProxy shows', () => {
  test.each([
    ['admin\n', 'admin'],
    ['operator\n\n', 'operator'],
    ['Permission denied\n', undefined],
  ])('of the level of a socket: %j means %s', (answer, expected) => {
    expect(readLevel(answer)).toBe(expected);
  });

  test('a certificate: fingerprint, end of validity, whether it signed itself', () => {
    expect(readCertificate(CERTIFICATE)).toEqual({
      fingerprint1: '047e9b1706f95da2382634dcc09e83adde1c783f',
      notAfter: new Date('2026-12-22T14:58:17Z'),
      selfSigned: true,
    });
    expect(readCertificate(CERTIFICATE.replace('Issuer: /CN=b', 'Issuer: /CN=ca'))?.selfSigned).toBe(false);
  });

  test.each([
    "Can't display the certificate: Not found or the certificate is a bundle!",
    'Filename: /certs/new.pem\nStatus: Empty',
    CERTIFICATE.slice(0, CERTIFICATE.indexOf('9B1706')),
    CERTIFICATE.slice(0, CERTIFICATE.indexOf('Subject: /')),
    CERTIFICATE.slice(0, CERTIFICATE.indexOf('Issuer: ')),
    CERTIFICATE.replace('Dec 22 14:58:17 2026 GMT', 'D'),
  ])('no certificate in "%s"', (answer) => {
    expect(readCertificate(answer)).toBeUndefined();
  });

  test('the list of certificates, with the pending transaction apart', () => {
    expect(
      readCertificateList('# transaction\n*/certs/a.pem\n# filename\n/certs/a.pem\n/certs/b.pem'),
    ).toEqual({
      pending: '/certs/a.pem',
      paths: ['/certs/a.pem', '/certs/b.pem'],
    });
    expect(readCertificateList('# filename\n/certs/a.pem')?.pending).toBeUndefined();
    expect(readCertificateList('# filename')).toEqual({ pending: undefined, paths: [] });
    expect(readCertificateList('Permission denied')).toBeUndefined();
  });

  test('version, buffer and workers', () => {
    expect(readVersion('Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nUptime: 1')).toBe('2.6.12-1+deb12u4');
    expect(
      readBufferBytes('  - Pool trash (16416 bytes) : 1\n  - Pool buffer (16384 bytes) : 2 allocated'),
    ).toBe(16_384);
  });

  test.each([
    {
      series: '2.4',
      text: `#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>
7153            master          0               1               0d00h00m21s     2.4.22-f8e3218
# workers
7200            worker          1               0               0d00h00m01s     2.4.22-f8e3218
# old workers
7156            worker          [was: 1]        1               0d00h00m21s     2.4.22-f8e3218
# programs`,
      failedReloads: undefined,
    },
    {
      series: '2.6',
      text: `#<PID>          <type>          <reloads>       <uptime>        <version>
7153            master          1 [failed: 0]   0d00h00m21s     2.6.12-1+deb12u4
# workers
7200            worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
7156            worker          1               0d00h00m21s     2.6.12-1+deb12u4
# programs`,
      failedReloads: 0,
    },
  ])('the processes of HAProxy $series', ({ text, failedReloads }) => {
    expect(readProcesses(text)).toEqual({ workers: [7200], oldWorkers: [7156], failedReloads });
  });

  test('an answer without any worker is no list of processes', () => {
    expect(
      readProcesses('#<PID>          <type>\n7153            master  2 [failed: 1]\n# workers'),
    ).toBeUndefined();
    expect(readProcesses("Can't connect to the target CLI!")).toBeUndefined();
  });

  test('a crt-list: its paths, without options, filters and comments', () => {
    const shown =
      '# /etc/list\n/certs/a.pem\n/certs/b.pem [alpn h2 ] b.test *.b.test\n/certs/c.pem[verify none]\n\n';
    expect(readCrtList(shown)).toEqual(['/certs/a.pem', '/certs/b.pem', '/certs/c.pem']);
    expect(readCrtList("didn't find the specified filename")).toBeUndefined();
  });

  test('what HAProxy can do is what its help names', () => {
    const help = (commands: string[]) => commands.map((command) => `  ${command} <x>   : text`).join('\n');
    const all = ['new ssl cert', 'add ssl crt-list', 'del ssl crt-list', 'del ssl cert'];
    expect(readCanAdd(help(all))).toBe(true);
    expect(readCanAdd(help(all.slice(1)))).toBe(false);
  });

  test.each([
    ["New empty certificate store '/a.pem'!", 'done'],
    ["Inserting certificate '/a.pem' in crt-list '/l'.\nSuccess!", 'done'],
    ["Certificate '/a.pem' deleted!", 'done'],
    ["Entry '/a.pem' deleted in crtlist '/l'!", 'done'],
    ["Certificate '/a.pem' already exists!", expect.objectContaining({ code: 'ERR_HAPROXY_REFUSED' })],
    [
      "Can't remove the certificate: certificate '/a.pem' in use, can't be deleted!",
      expect.objectContaining({ code: 'ERR_HAPROXY_REFUSED' }),
    ],
  ])('a change of a list: %s', (answer, expected) => {
    expect(readListChange(answer)).toEqual(expected);
  });

  test('whether a process has given its listeners up', () => {
    expect(readStopping('Pid: 1\nStopping: 1\nJobs: 2')).toBe(true);
    expect(readStopping('Pid: 1\nStopping: 0\nJobs: 2')).toBe(false);
    expect(readStopping("Can't find the target PID matching the prefix '@!7156'")).toBeUndefined();
  });

  test('answers to several commands are told apart by their empty lines', () => {
    expect(splitAnswers('Name: HAProxy\n\n# filename\n/certs/a.pem\n\n')).toEqual([
      'Name: HAProxy',
      '# filename\n/certs/a.pem',
    ]);
    expect(splitAnswers('')).toEqual([]);
  });
});

describe('what HAProxy says of a change', () => {
  test('a transaction for our path is created', () => {
    expect(readSet('Transaction created for certificate /certs/a.pem!', '/certs/a.pem')).toBe('created');
  });

  test("a payload that went into somebody's pending transaction is told, whatever path that has", () => {
    expect(readSet('Transaction updated for certificate /certs/a.pem!', '/certs/a.pem')).toBe('merged');
    expect(readSet('Transaction updated for certificate /certs/other.pem!', '/certs/a.pem')).toBe('merged');
  });

  test('a commit counts only with its "Success!"', () => {
    expect(readCommit('Committing /certs/a.pem.\nSuccess!')).toBe('committed');
    expect(readCommit("No ongoing transaction! !\nCan't commit /certs/a.pem!")).toMatchObject({
      code: 'ERR_HAPROXY_REFUSED',
      reason: "No ongoing transaction! ! Can't commit /certs/a.pem!",
    });
  });

  test('aborting what is not pending is no failure', () => {
    expect(readAbort("Transaction aborted for certificate '/certs/a.pem'!")).toBe('aborted');
    expect(readAbort('No ongoing transaction!')).toBe('nothing pending');
  });

  test('a lock held by another thread is recognised', () => {
    const answer = "Can't commit the certificate!\nOperations on certificates are currently locked!";
    expect(isLocked(answer)).toBe(true);
    expect(readRefusal(answer)).toMatchObject({ code: 'ERR_HAPROXY_BUSY', retry: 'now' });
  });

  test.each([
    { answer: '', code: 'ERR_HAPROXY_REFUSED', reason: /no answer/, remedy: undefined },
    { answer: 'Permission denied', code: 'ERR_HAPROXY_SOCKET', reason: /denied/, remedy: /level admin/ },
    { answer: 'Unknown command, but maybe', code: 'ERR_HAPROXY_REFUSED', reason: /not know/, remedy: /2\.2/ },
    {
      answer: "Can't find the target PID matching the prefix '@1'",
      code: 'ERR_HAPROXY_SOCKET',
      reason: /no worker/,
      remedy: undefined,
    },
    {
      answer: "Can't replace a certificate which is not referenced by the configuration!\nCan't update x!",
      code: 'ERR_HAPROXY_REFUSED',
      reason: /not referenced/,
      remedy: /crt argument/,
    },
  ])('"$answer" becomes $code', ({ answer, code, reason, remedy }) => {
    const refusal = readRefusal(answer);
    expect(refusal.code).toBe(code);
    expect(refusal.reason).toMatch(reason);
    if (remedy === undefined) expect(refusal.remedy).toBeUndefined();
    else expect(refusal.remedy).toMatch(remedy);
  });
});
