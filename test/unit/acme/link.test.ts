import { expect, test } from 'vitest';
import { linkTargets } from '../../../src/acme/link.ts';

const BASE = 'https://ca.test/acct/1';

test.each([
  { headers: [], targets: [] },
  { headers: ['<https://ca.test/dir>;rel="index"'], targets: [] },
  { headers: ['<https://ca.test/tos>;rel="terms-of-service"'], targets: ['https://ca.test/tos'] },
  { headers: ['</tos>; rel=terms-of-service'], targets: ['https://ca.test/tos'] },
  {
    headers: ['<https://ca.test/tos>; title="a, b; c"; rel="x terms-of-service"'],
    targets: ['https://ca.test/tos'],
  },
  {
    headers: [
      '<https://ca.test/dir>;rel="index", <https://ca.test/a>;rel="terms-of-service"',
      '<b>;rel="terms-of-service"',
    ],
    targets: ['https://ca.test/a', 'https://ca.test/acct/b'],
  },
  {
    headers: ['<http://[>;rel="terms-of-service"', 'terms-of-service', '<https://ca.test/tos>'],
    targets: [],
  },
])('the terms of service in $headers are $targets', ({ headers, targets }) => {
  expect(linkTargets(headers, 'terms-of-service', BASE)).toEqual(targets);
});
