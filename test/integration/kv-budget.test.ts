import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../shared/protocol/job.ts';
import { rowBytes } from '../../worker/cache/layout.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { toOpenedModel } from '../../worker/thread/opened-model.ts';
import { temporaryDirectory } from '../support/directories.ts';
import {
  type ChoiceSoFar,
  EngineDriver,
  engineJob,
  foldChoices,
} from '../support/engine-driver.ts';
import { openStoriesPair } from '../support/model-pair.ts';

const directory = temporaryDirectory();
const target = join(import.meta.dirname, '../../infra/models/stories-target');
const NUM_JOBS = 6;

describe('the embedded model in little memory', () => {
  let pair: Awaited<ReturnType<typeof openStoriesPair>>;
  let jobs: Job[];
  beforeAll(async () => {
    pair = await openStoriesPair(directory);
    jobs = pair.prompts.slice(0, NUM_JOBS).map((prompt, i) =>
      engineJob({
        prompts: [[...prompt]],
        maxTokens: 200 + 40 * i,
        ignoreEos: true,
        sampling: { ...engineJob().sampling, temperature: 0.9, seed: i },
      }),
    );
  });
  afterAll(() => pair[Symbol.asyncDispose]());

  async function run(kvCacheBytes: number) {
    const driver = new EngineDriver({ served: pair.target, maxSequences: NUM_JOBS, kvCacheBytes });
    for (const job of jobs) driver.start(job);
    let greatest = 0;
    while (!driver.engine.isIdle) {
      await driver.step();
      greatest = Math.max(greatest, driver.engine.usage.kvCacheBytes);
    }
    const outcomes = jobs.map((job): ChoiceSoFar => foldChoices(driver.eventsOf(job), 1)[0]!);
    return { outcomes, greatest, numPreemptions: driver.engine.usage.numPreemptions };
  }

  it('serves as many at once as fit, and gives each the same text', async () => {
    const { shape } = pair.target.runner;
    const maxBytes = rowBytes(shape, 512) + rowBytes(shape, 128);
    const [lavish, tight] = [await run(Infinity), await run(maxBytes)];

    expect(tight.outcomes).toEqual(lavish.outcomes);
    expect(lavish.greatest).toBeGreaterThan(2 * maxBytes);
    expect(tight.greatest).toBeLessThanOrEqual(maxBytes);
    expect([lavish.numPreemptions, tight.numPreemptions > 2]).toEqual([0, true]);
  });

  it('serves the context that one row can have, and says so in its name', async () => {
    const cacheDir = join(directory, 'cache');
    const settings = { executionProvider: 'cpu', weightFormat: 'fp32', numThreads: 1 } as const;
    const model = await openModel({ modelDir: target, cacheDir, ...settings });
    await model.runner.close();
    const { shape } = model.runner;
    const [whole, half] = [512, 511].map((columns) =>
      toOpenedModel(model, rowBytes(shape, columns)),
    );

    expect(whole?.shape.maxSequenceTokens).toBe(512);
    expect(whole?.fingerprint).toBe(model.fingerprint);
    expect(half?.kvCache).toMatchObject({
      contextTokens: 256,
      modelContextTokens: 512,
      fullRows: 1,
    });
    expect(half?.shape.maxSequenceTokens).toBe(256);
    expect(half?.fingerprint).toBe(`${model.fingerprint}-c256`);
    expect(() => toOpenedModel(model, 1000)).toThrow('the least for this model is 1');
  });
});
