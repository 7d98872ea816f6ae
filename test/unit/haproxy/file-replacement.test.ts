import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { planPrevious } from '../../../src/haproxy/file-replacement.ts';
import { selfSigned } from '../../support/pem.ts';

const old = selfSigned('old.test');
const next = selfSigned('next.test');
const edited = selfSigned('edited-by-hand.test');
const truncated = Buffer.from(old.bundlePem.slice(0, 200));

const loaded = ({ certificate }: typeof old) => ({
  fingerprint1: createHash('sha1').update(certificate.raw).digest('hex'),
  notAfter: new Date(certificate.validTo),
  selfSigned: true,
});
const bytes = ({ bundlePem }: typeof old) => Buffer.from(bundlePem);

test.each([
  { when: 'there is neither file nor leftover', current: undefined, stale: undefined, expected: 'none' },
  { when: 'there is a file', current: bytes(old), stale: undefined, expected: 'link' },
  { when: 'it was interrupted before the rename', current: bytes(old), stale: bytes(old), expected: 'keep' },
  {
    when: 'it was interrupted between rename and commit: memory has what the leftover holds',
    current: bytes(next),
    stale: bytes(old),
    memory: loaded(old),
    expected: 'keep',
  },
  {
    when: 'it was interrupted after the commit: the new bundle is the one to come back to',
    current: bytes(next),
    stale: bytes(old),
    memory: loaded(next),
    expected: 'replace',
  },
  {
    when: 'somebody put another good file there since',
    current: bytes(edited),
    stale: bytes(old),
    memory: loaded(old),
    expected: 'replace',
  },
  {
    when: 'the file is broken and the leftover is good',
    current: truncated,
    stale: bytes(old),
    expected: 'keep',
  },
  {
    when: 'the file is gone and the leftover is good',
    current: undefined,
    stale: bytes(old),
    expected: 'keep',
  },
  { when: 'the leftover is broken', current: bytes(old), stale: truncated, expected: 'replace' },
  {
    when: 'the leftover is broken and the file gone',
    current: undefined,
    stale: truncated,
    expected: 'none',
  },
])('$expected when $when', ({ current, stale, memory, expected }) => {
  expect(planPrevious({ current, stale, wanted: bytes(next), loaded: memory })).toBe(expected);
});
