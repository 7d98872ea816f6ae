import { defineConfig } from 'vitest/config';

/** Against hanging only: a busy machine may take its time. */
const bounds = { testTimeout: 180_000, hookTimeout: 180_000 };

/** Tests that start servers: these take their programs from the lab, and must give everything back. */
const withServers = {
  globalSetup: 'test/setup/vitest-lab.mjs',
  setupFiles: 'test/setup/leaks.ts',
  ...bounds,
};

export default defineConfig({
  test: {
    restoreMocks: true,
    // Most of the time servers are waited for: one worker fewer than processors, as by default, would be one of two.
    maxWorkers: '100%',
    projects: [
      // They share nothing but the process: without a fresh one for each file they take a third of the time.
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], isolate: false, ...bounds } },
      { test: { name: 'contract', include: ['test/contract/**/*.test.ts'], ...withServers } },
      { test: { name: 'integration', include: ['test/integration/**/*.test.ts'], ...withServers } },
      {
        test: {
          name: 'images',
          include: ['test/images/**/*.test.ts'],
          ...withServers,
          globalSetup: ['test/setup/vitest-lab.mjs', 'test/setup/vitest-images.mjs'],
        },
      },
    ],
  },
});
