import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { accountRecord, bundleRecord, listRecords } from '../../src/app/records.ts';
import { FileStateStore } from '../../src/store/file-store.ts';
import { realClock } from '../contract/real-clock.ts';
import { startCaFront } from '../support/faulty-ca.ts';
import { type LabKacme, labKacme } from '../support/lab-kacme.ts';
import { selfSigned } from '../support/pem.ts';

/** The private keys that kacme has or meets, as PEM, and the thumbprint of its account key. */
async function secretsOf({ kacme, fleet }: LabKacme, more: readonly string[]) {
  const store = await FileStateStore.open(kacme.storePath, { clock: realClock, readOnly: true });
  const signal = AbortSignal.timeout(5_000);
  const accounts = await listRecords(store, accountRecord, [], { signal });
  const bundles = await listRecords(store, bundleRecord, ['site'], { signal });
  await store.close();
  const stored = [...accounts, ...bundles].map(({ value }) => value.keyPem);
  const identity = await readFile(fleet.identityFile, 'utf8');
  return { keys: [...stored, identity, ...more], thumbprint: thumbprint(accounts[0]?.value.keyPem ?? '') };
}

/** RFC 7638: what makes a key authorization of a token (RFC 8555 section 8.1). */
function thumbprint(pem: string): string {
  const { crv, kty, x, y } = createPublicKey(createPrivateKey(pem)).export({ format: 'jwk' });
  return createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
}

test('nothing that kacme prints, logs or serves holds a key or a key authorization, at whatever level', async () => {
  const old = selfSigned('site.test');
  const lab = await labKacme({ bundlePem: old.bundlePem });
  onTestFinished(lab.close);
  const { kacme } = lab;
  const ca = await startCaFront(lab.pebble);
  onTestFinished(ca.close);
  const issuer = { directory: ca.directoryUrl, caFile: ca.caFile, timeout: '1s' };
  await kacme.overlay({ log: { level: 'trace' }, issuers: { pebble: issuer } });

  const said: string[] = [];
  const run = async (...args: string[]) => {
    const { stdout, stderr } = await kacme.run('--log-level', 'trace', ...args);
    said.push(stdout, stderr);
  };
  await run('bootstrap');
  await run('renew', '--json');
  ca.failWith((_, response) => response.writeHead(500).end('out of order'), '/finalize-order/');
  await run('renew', '--force');
  ca.failWith(undefined);
  const service = await kacme.serve();
  await service.logged('place state changed', { state: 'in sync' });
  await run('renew', '--force');
  await run('distribute', '--json');
  await run('status');
  await run('status', '--json');
  await run('config', 'show');
  for (const path of ['/metrics', '/readyz', '/healthz'])
    said.push(await (await fetch(`http://${service.operations}${path}`)).text());
  await service.stop();
  said.push(service.output());

  const { keys, thumbprint } = await secretsOf(lab, [old.keyPem]);
  // Account, three bundles (one superseded twice), the login, and what was on the host before.
  expect(keys.length).toBeGreaterThanOrEqual(6);
  const everything = said.join('\n');
  expect(everything).toContain('issuance finished');
  expect(everything).toContain('ACME request');
  // A short last line may stand anywhere by accident.
  const isTelling = (line: string) => line.length >= 32 && !line.startsWith('-----');
  const bodies = keys.map((pem) => pem.split('\n').filter(isTelling));
  expect(bodies.every((lines) => lines.length > 0)).toBe(true);
  for (const lines of bodies) expect(lines.filter((line) => everything.includes(line))).toHaveLength(0);
  expect(everything).not.toContain('PRIVATE KEY');
  expect(everything.includes(thumbprint)).toBe(false);
});
