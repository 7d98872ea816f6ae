import { expect, test } from 'vitest';
import { AcmeAccount } from '../../../src/acme/account.ts';
import type { AcmeSession } from '../../../src/acme/session.ts';
import { effect, issuer } from '../app/app-fixture.ts';

const ACCOUNT = 'https://ca.test/account/1';

/** A session whose first request hangs until it is cancelled; those after it are answered. */
function hangingOnce() {
  let posts = 0;
  const answer = {
    status: 201,
    body: '{"status":"valid"}',
    request: { resource: 'newAccount', method: 'POST', url: 'https://ca.test/new-account' },
    notBefore: undefined,
    header: (name: string) => (name === 'location' ? ACCOUNT : undefined),
    headers: () => [],
  };
  const session: Pick<AcmeSession, 'directory' | 'post'> = {
    directory: async () => ({
      newNonce: 'https://ca.test/nonce',
      newAccount: 'https://ca.test/new-account',
      newOrder: 'https://ca.test/order',
      revokeCert: undefined,
      keyChange: undefined,
      renewalInfo: undefined,
      termsOfService: undefined,
      caaIdentities: [],
      externalAccountRequired: false,
      profiles: undefined,
    }),
    post: async (_, { signal }) => {
      posts += 1;
      signal.throwIfAborted();
      if (posts > 1)
        return { ...answer, request: { ...answer.request, resource: 'newAccount', method: 'POST' } };
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    },
  };
  const account = new AcmeAccount({
    issuer: issuer(),
    session: session as AcmeSession,
    readSecret: async () => '',
  });
  return { account, posts: () => posts };
}

test('whoever waits for a registration that another call began is not cancelled with it', async ({
  signal,
}) => {
  const { account, posts } = hangingOnce();
  const first = new AbortController();
  const cancelled = account.ensure(effect(first.signal));
  const other = account.ensure(effect(signal));
  first.abort(new Error('the operator went away'));
  await expect(cancelled).rejects.toThrow('the operator went away');
  expect(await other).toBe(ACCOUNT);
  expect(posts()).toBe(2);
});

test('whoever is cancelled itself does not begin anew', async () => {
  const { account, posts } = hangingOnce();
  const own = new AbortController();
  const waiting = [account.ensure(effect(own.signal)), account.ensure(effect(own.signal))];
  own.abort(new Error('the service stops'));
  for (const one of waiting) await expect(one).rejects.toThrow('the service stops');
  expect(posts()).toBe(1);
});
