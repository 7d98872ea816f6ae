import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Dispatchers } from '../../../src/acme/dispatcher.ts';
import type { IssuerSpec } from '../../../src/domain/model.ts';
import { selfSigned } from '../../support/pem.ts';
import { scratchDirectory } from '../../support/scratch.ts';

const issuer = (overrides: Partial<IssuerSpec> = {}): IssuerSpec => ({
  name: 'test',
  directory: 'https://ca.test/directory',
  contact: [],
  termsOfServiceAgreed: true,
  profile: undefined,
  preferredChain: undefined,
  eab: undefined,
  caFile: undefined,
  proxy: undefined,
  timeoutMs: 1_000,
  limits: {},
  stagingFirst: undefined,
  ...overrides,
});

describe('the connections to a CA', () => {
  let dispatchers: Dispatchers;
  let scratch: Awaited<ReturnType<typeof scratchDirectory>>;
  beforeEach(async () => {
    dispatchers = new Dispatchers(async () => 'secret');
    scratch = await scratchDirectory();
  });
  afterEach(async () => {
    await dispatchers.close();
    await scratch.remove();
  });

  test('are the same however often they are asked for, at one time too', async () => {
    const opened = await Promise.all([dispatchers.open(issuer()), dispatchers.open(issuer())]);
    opened.push(await dispatchers.open(issuer({ name: 'other', contact: ['mailto:ops@example.org'] })));
    expect(new Set(opened.map((dispatcher) => dispatcher()))).toHaveProperty('size', 1);
  });

  test.each([{ directory: 'https://other.test/directory' }, { timeoutMs: 2_000 }])(
    'are others where the settings differ: %j',
    async (overrides) => {
      const [one, other] = [await dispatchers.open(issuer()), await dispatchers.open(issuer(overrides))];
      expect(one()).not.toBe(other());
    },
  );

  test('are made anew, for everybody, when the caFile holds other roots', async () => {
    const caFile = join(scratch.path, 'ca.pem');
    await writeFile(caFile, selfSigned('one.test').certPem);
    const first = await dispatchers.open(issuer({ caFile }));
    const before = first();
    expect((await dispatchers.open(issuer({ caFile })))()).toBe(before);

    await writeFile(caFile, selfSigned('two.test').certPem);
    const second = await dispatchers.open(issuer({ caFile }));
    expect(second()).not.toBe(before);
    expect(first()).toBe(second());
  });
});
