import { homedir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { NOTHING_PUBLISHED } from '../../shared/protocol/generation.ts';
import { EngineClient } from '../../worker/thread/client.ts';
import { jobOf } from '../support/jobs.ts';

const NUM_ROWS = 64;
const modelDir = join(import.meta.dirname, '../../infra/models/stories-target');

function openEngine(): Promise<EngineClient> {
  return EngineClient.open({
    modelDir,
    cacheDir: process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet'),
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
    limits: { maxSequences: NUM_ROWS, maxBatchedTokens: 4 * NUM_ROWS },
    kvCacheBytes: 2 ** 28,
    prefixCacheBytes: 0,
    speculation: {
      draftModelDir: null,
      draftWeightFormat: 'auto',
      proposers: [],
      maxDraftTokens: 0,
    },
  });
}

it('lets go of a request for all who ask at once', async () => {
  await using engine = await openEngine();
  const job = jobOf({ prompts: [[1, 3]], maxTokens: 200, ignoreEos: true });
  const run = () =>
    new Promise((resolve) =>
      engine.start(job, { choices: [NOTHING_PUBLISHED] }, (events) => resolve(events)),
    );
  await run();
  await Promise.all([engine.release(job.id), engine.release(job.id)]);

  expect(engine.numRequests).toBe(0);
  await run();
  await engine.release(job.id);
});

it('takes a command that came in the middle of a step before the next', async () => {
  await using engine = await openEngine();
  /**
   * Asks for an end a while after the first token, when the second is computed. @returns tokens of
   * each row
   */
  function cancelledAtOnce(): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    const prompts = Array.from({ length: NUM_ROWS }, (_, i) => [1, 3 + i]);
    const job = jobOf({ prompts, maxTokens: 50, ignoreEos: true, speculation: 'off' });
    const choices = prompts.map(() => NOTHING_PUBLISHED);
    engine.start(job, { choices }, (events) => {
      for (const untilMs = performance.now() + 3; performance.now() < untilMs; );
      engine.cancel(job.id, 'cancelled');
      const last = events.at(-1);
      if (last?.type === 'end') resolve(last.usage.completionTokens / NUM_ROWS);
    });
    return promise;
  }

  const counts: number[] = [];
  for (let i = 0; i < 20; i += 1) counts.push(await cancelledAtOnce());
  // A busy machine may be late now and then.
  expect(counts.filter((count) => count <= 2).length, `${counts}`).toBeGreaterThanOrEqual(5);
});
