import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../shared/protocol/job.ts';
import type { ModelInput, ModelRunner } from '../../worker/model/runner.ts';
import { temporaryDirectory } from '../support/directories.ts';
import {
  type ChoiceSoFar,
  EngineDriver,
  engineJob,
  foldChoices,
  generate,
  type ServedModel,
} from '../support/engine-driver.ts';
import { type ModelPair, openStoriesPair } from '../support/model-pair.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../support/random.ts';

const directory = temporaryDirectory();
const MAX_NEIGHBORS = 15;
let pair: ModelPair;
beforeAll(async () => {
  pair = await openStoriesPair(directory);
});
afterAll(() => pair[Symbol.asyncDispose]());

/** Half of them begin as the pair's prompts do, and may share blocks; half are noise. */
function promptOf(rng: Rng, length: number): number[] {
  const begin = rng() < 0.5 ? pickFrom(rng, pair.prompts) : [];
  const { vocabSize } = pair.target.runner.shape;
  const noise = Array.from({ length }, () => integerFrom(rng, 3, vocabSize));
  return [...begin, ...noise].slice(0, length);
}

function jobOf(rng: Rng, fields: Partial<Job> = {}): Job {
  const sampling = { ...engineJob().sampling, temperature: pickFrom(rng, [0, 0.7, 1.1]) };
  return engineJob({
    prompts: [promptOf(rng, integerFrom(rng, 1, 200))],
    sampling: { ...sampling, topP: pickFrom(rng, [1, 0.9]), seed: integerFrom(rng, 0, 2 ** 31) },
    maxTokens: integerFrom(rng, 1, 120),
    ignoreEos: true,
    class: pickFrom(rng, ['interactive', 'batch']),
    ...fields,
  });
}

/** What becomes of a job that comes among others, which come and go. */
async function amongNeighbors(job: Job, rng: Rng): Promise<ChoiceSoFar> {
  const driver = new EngineDriver({
    served: pair.target,
    maxBatchedTokens: 128,
    prefixCacheBytes: 1e8,
  });
  const neighbors = Array.from({ length: MAX_NEIGHBORS }, () => jobOf(rng));
  for (const each of neighbors.slice(0, 8)) driver.start(each);
  for (let step = 0; step < 5; step += 1) await driver.step();
  driver.start(job);
  for (const each of neighbors.slice(8)) {
    await driver.step();
    driver.start(each);
    if (rng() < 0.3) driver.engine.cancel(pickFrom(rng, neighbors).id, 'cancelled');
  }
  await driver.finish();
  return foldChoices(driver.eventsOf(job), 1)[0]!;
}

function numTokensOf(driver: EngineDriver, job: Job): number {
  return foldChoices(driver.eventsOf(job), 1)[0]!.tokenIds.length;
}

describe('the embedded model', () => {
  it.each([1, 2, 3, 4])('says the same alone and among 15 random neighbors (%i)', async (seed) => {
    const rng = seededRng(seed);
    const sampling = { ...engineJob().sampling, temperature: 1, seed };
    const job = jobOf(rng, { sampling, maxTokens: 100, class: 'interactive' });
    const [alone] = foldChoices(await generate(job, { served: pair.target }), 1);

    expect(alone?.tokenIds).toHaveLength(100);
    expect(await amongNeighbors(job, rng)).toEqual(alone);
  });

  it.each([128, 64, 16])(
    'lets every stream go on with each chunk of a prompt of 400 tokens, %i in a step',
    async (maxBatchedTokens) => {
      const { served, calls } = watched(pair.target);
      const driver = new EngineDriver({ served, maxBatchedTokens });
      const rng = seededRng(5);
      const asked = { class: 'interactive', maxTokens: 100 } as const;
      const streams = Array.from({ length: 8 }, () => jobOf(rng, { ...asked, prompts: [[5, 6]] }));
      for (const each of streams) driver.start(each);
      const counts = () => streams.map((each) => numTokensOf(driver, each));
      while (counts().includes(0)) await driver.step();
      const long = jobOf(rng, { ...asked, prompts: [promptOf(rng, 400)] });
      driver.start(long);
      let numSteps = 0;
      while (numTokensOf(driver, long) === 0) {
        const before = counts();
        calls.length = 0;
        await driver.step();
        numSteps += 1;

        expect(counts()).toEqual(before.map((count) => count + 1));
        for (const { numNewTokens } of calls) expect(numNewTokens).toBeLessThanOrEqual(64);
      }
      expect(numSteps).toBeGreaterThanOrEqual(400 / Math.min(64, maxBatchedTokens - 8));
    },
  );
});

/** The same model, with what it was called with. */
function watched({ runner, context }: ServedModel) {
  const calls: ModelInput[] = [];
  const run: ModelRunner['run'] = (input) => {
    calls.push(input);
    return runner.run(input);
  };
  const { shape } = runner;
  return { calls, served: { runner: { shape, run, close: () => runner.close() }, context } };
}
