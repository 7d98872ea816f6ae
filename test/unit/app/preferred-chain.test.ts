import { expect, test } from 'vitest';
import { downloadChain } from '../../../src/app/preferred-chain.ts';
import { testCa } from '../../support/pem.ts';

const chainTo = (root: string) => testCa(root).intermediate('Intermediate').issue(['site.test']).chainPem;
const chains: Readonly<Record<string, string>> = {
  'https://ca.test/cert/1': chainTo('Old Root'),
  'https://ca.test/cert/1/alternate/1': chainTo('New Root'),
  'https://ca.test/cert/1/alternate/2': chainTo('Third Root'),
};
const [URL_OF_CERTIFICATE = '', ...alternates] = Object.keys(chains);

async function download(preferred: string | undefined, signal: AbortSignal) {
  const asked: string[] = [];
  const authority = {
    certificate: async (url: string) => {
      asked.push(url);
      return { chainPem: chains[url] ?? '', alternates: url === URL_OF_CERTIFICATE ? alternates : [] };
    },
  };
  const preferredChain =
    preferred === undefined ? undefined : { value: preferred, setBy: 'issuers.ca.preferredChain' };
  const chainPem = await downloadChain(URL_OF_CERTIFICATE, { preferredChain }, 'ca', authority, { signal });
  return { url: Object.keys(chains).find((url) => chains[url] === chainPem), asked: asked.length };
}

test.each([
  { preferred: undefined, url: URL_OF_CERTIFICATE, asked: 1 },
  { preferred: 'Old Root', url: URL_OF_CERTIFICATE, asked: 1 },
  { preferred: 'New Root', url: alternates[0], asked: 2 },
  { preferred: 'Third Root', url: alternates[1], asked: 3 },
])('$preferred is downloaded, and nothing after it', async ({ preferred, url, asked }) => {
  expect(await download(preferred, AbortSignal.timeout(5_000))).toEqual({ url, asked });
});

test('one that is not offered is refused with those that are', async ({ signal }) => {
  await expect(download('new root', signal)).rejects.toMatchObject({
    code: 'ERR_ACME_CHAIN',
    retry: 'never',
    message: expect.stringContaining(
      'that leads to "new root": it offers "Old Root", "New Root", "Third Root". The certificate is issued',
    ),
    remedy: expect.stringMatching(/^set issuers\.ca\.preferredChain to one of "Old Root", .* or remove it/),
  });
});
