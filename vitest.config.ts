import { defineConfig } from 'vitest/config';

/**
 * Integration and end-to-end files start servers and models; two at a time would only queue for
 * cores.
 */
const serial = { fileParallelism: false, testTimeout: 120_000, hookTimeout: 120_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/{edge,shared,worker,infra}/**/*.test.ts', 'test/*.test.ts'],
        },
      },
      { test: { name: 'integration', include: ['test/integration/**/*.test.ts'], ...serial } },
      { test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], ...serial } },
    ],
  },
});
