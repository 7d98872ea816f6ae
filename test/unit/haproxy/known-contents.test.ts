import { expect, test } from 'vitest';
import { KnownContents } from '../../../src/haproxy/known-contents.ts';
import { selfSigned } from '../../support/pem.ts';

test('what many hosts hold is read once, and told of each', () => {
  const contents = new KnownContents();
  const { bundlePem, fingerprint256 } = selfSigned('lb.test');
  const [one, other] = [contents.of(Buffer.from(bundlePem)), contents.of(Buffer.from(bundlePem))];
  expect(one).toBe(other);
  expect(one).toMatchObject({ content: { state: 'loadable', facts: { fingerprint256 } } });
  expect(one.bytes.toString()).toBe(bundlePem);
});

test('another content is another, however many there are', () => {
  const contents = new KnownContents();
  const broken = Array.from({ length: 200 }, (_, i) => contents.of(Buffer.from(`not a bundle ${i}`)));
  expect(new Set(broken.map(({ sha256 }) => sha256)).size).toBe(200);
  expect(broken[199]).toMatchObject({ content: { state: 'broken' } });
  expect(contents.of(Buffer.from('not a bundle 0'))).toBe(broken[0]);
});
