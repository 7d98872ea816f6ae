import { createPrivateKey } from 'node:crypto';
import type { CertificateAuthority, Order } from '../../src/ports/certificate-authority.ts';
import { testCa } from './pem.ts';
import { silentAuthority } from './silent-authority.ts';

/** A CA without a server, which needs no validation: its orders are ready at once. */
export interface PaperCa {
  readonly authority: CertificateAuthority;
  /** As it answers where nothing is overridden. */
  readonly plain: CertificateAuthority;
  /** Names of the requests so far. */
  readonly heard: readonly string[];
  /** From now on it answers otherwise. */
  override(answers: Partial<CertificateAuthority>): void;
  /** Has an order finalized, as if by a request that came late. */
  issue(order: Order, keyPem: string, names: readonly string[]): Order;
}

export function paperCa(): PaperCa {
  const ca = testCa();
  const heard: string[] = [];
  const orders = new Map<string, Order>();
  const chains = new Map<string, string>();
  const put = (order: Order) => {
    orders.set(order.url, order);
    return order;
  };
  const find = (url: string): Order => {
    const order = orders.get(url);
    if (order === undefined) throw new Error(`there is no order ${url}`);
    return order;
  };
  const issue: PaperCa['issue'] = (order, keyPem, names) => {
    const certificate = order.url.replace('order', 'certificate');
    chains.set(certificate, ca.issue(names, { key: createPrivateKey(keyPem) }).chainPem);
    return put({ ...order, status: 'valid', certificate });
  };
  let overrides: Partial<CertificateAuthority> = {};
  const plain: CertificateAuthority = {
    ...silentAuthority,
    ensureAccount: async () => 'https://ca.test/account/1',
    caaIdentities: async () => [],
    profiles: async () => undefined,
    newOrder: async (_names, { replaces }) => {
      const url = `https://ca.test/order/${orders.size + 1}`;
      return put({
        url,
        status: 'ready',
        authorizations: [],
        finalize: `${url}/finalize`,
        certificate: undefined,
        expires: undefined,
        replaces,
        profile: undefined,
        error: undefined,
      });
    },
    order: async (url) => orders.get(url),
    awaitOrder: async (url) => find(url),
    finalize: async (order, { keyPem, identifiers }) => issue(order, keyPem, identifiers),
    certificate: async (url) => ({ chainPem: chains.get(url) ?? '', alternates: [] }),
  };
  const authority = Object.fromEntries(
    Object.entries(plain).map(([name, answer]) => [
      name,
      (...parameters: never[]) => {
        heard.push(name);
        const asked = (overrides as Record<string, typeof answer>)[name] ?? answer;
        return (asked as (...parameters: never[]) => unknown)(...parameters);
      },
    ]),
  ) as unknown as CertificateAuthority;
  return {
    authority,
    plain,
    heard,
    issue,
    override: (answers) => {
      overrides = { ...overrides, ...answers };
    },
  };
}
