import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { assertWork, type Benchmark } from './benchmark.ts';
import { startLab } from './lab.ts';

const CERTIFICATES = 20;

/** `kacme renew` from an empty store: process, account, twenty orders, twenty bundles in the store. */
export const twenty: Benchmark = {
  name: 'twenty',
  about: `${CERTIFICATES} certificates from nothing against Pebble, each validated through HAProxy`,
  run: async ({ runs, command, say }) => {
    const lab = await startLab({ hosts: 1, identifiers: ['site.test'], command });
    try {
      // HAProxy on the way of the challenges needs a bundle to start with.
      await lab.serve(await lab.install({ deployed: true }));
      const samples: number[] = [];
      for (let i = 0; i < runs; i++) {
        const installation = await lab.install({ deployed: false, certificates: CERTIFICATES });
        const startMs = performance.now();
        await lab.kacme(installation, 'renew');
        samples.push(performance.now() - startMs);
        const bundles = await readdir(join(installation.storePath, 'data', 'bundle'));
        assertWork(bundles.length === CERTIFICATES, `${bundles.length} certificates were issued`);
      }
      say('twenty: done');
      return [
        {
          name: 'twenty.renew',
          title: `kacme renew, ${CERTIFICATES} certificates from nothing`,
          unit: 'ms',
          target: 3_000,
          samples,
        },
      ];
    } finally {
      await lab.close();
    }
  },
};
