import { describe, expect, it } from 'vitest';
import { toTenantId } from '../../../shared/ids.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import type { ModelInput, ModelOutput } from '../../../worker/model/runner.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';
import { TinyModel } from '../../support/tiny-model.ts';
import { VOCAB_SIZE } from '../../support/tiny-tokens.ts';

const sampled = { ...PLAIN_PARAMS, temperature: 0.8, seed: 99 };
const penalized = {
  ...sampled,
  topP: 0.9,
  topK: 15,
  minP: 0.01,
  presencePenalty: 0.8,
  frequencyPenalty: 0.5,
  repetitionPenalty: 1.3,
};

function promptOf(rng: Rng, length: number): number[] {
  return Array.from({ length }, () => integerFrom(rng, 3, VOCAB_SIZE));
}

/** Requests of all kinds, with prompts and outputs across the ends of blocks. */
function jobs(): Readonly<Record<string, Job>> {
  const rng = seededRng(50);
  return {
    greedy: engineJob({ prompts: [promptOf(rng, 5)], maxTokens: 70 }),
    'long prompt': engineJob({ prompts: [promptOf(rng, 200)], maxTokens: 12, sampling: sampled }),
    'a prompt of whole blocks': engineJob({ prompts: [promptOf(rng, 128)], maxTokens: 5 }),
    penalties: engineJob({ prompts: [promptOf(rng, 30)], maxTokens: 60, sampling: penalized }),
    choices: engineJob({
      prompts: [promptOf(rng, 9), promptOf(rng, 61)],
      n: 2,
      maxTokens: 20,
      sampling: sampled,
      stop: ['bc', 'd '],
    }),
    logprobs: engineJob({
      prompts: [promptOf(rng, 70)],
      maxTokens: 8,
      topLogprobs: 3,
      echo: true,
      sampling: sampled,
    }),
  };
}

const JOBS = Object.entries(jobs());

function choicesOf(driver: EngineDriver, job: Job) {
  return foldChoices(driver.eventsOf(job), job.prompts.length * job.n);
}

async function alone(job: Job, model = new TinyModel()) {
  return foldChoices(await generate(job, { model }), job.prompts.length * job.n);
}

/** What each job gives by itself, when a step may read 64 tokens. */
const outcomes = new Map(JOBS.map(([, job]) => [job, alone(job)]));

/** A neighbor that comes, and perhaps goes before it is done. */
function neighborOf(rng: Rng): Job {
  return engineJob({
    prompts: Array.from({ length: integerFrom(rng, 1, 3) }, () =>
      promptOf(rng, pickFrom(rng, [1, 3, 20, 64, 100])),
    ),
    n: pickFrom(rng, [1, 1, 1, 3]),
    maxTokens: integerFrom(rng, 1, 30),
    priority: integerFrom(rng, 1, 2000),
    sampling: { ...pickFrom(rng, [sampled, penalized]), seed: integerFrom(rng, 0, 1000) },
    topLogprobs: pickFrom(rng, [null, 2]),
    echo: rng() < 0.2,
  });
}

/**
 * Starts the job at some step, among others that start, are cancelled, or are taken away at others.
 */
async function amongNeighbors(job: Job, driver: EngineDriver, rng: Rng): Promise<void> {
  const neighbors: Job[] = [];
  const startStep = integerFrom(rng, 0, 12);
  for (let step = 0; step <= startStep || neighbors.length < 15; step += 1) {
    if (step === startStep) driver.start({ ...job, priority: 1 });
    for (let i = integerFrom(rng, 0, 3); i > 0 && neighbors.length < 15; i -= 1) {
      neighbors.push(neighborOf(rng));
      driver.start(neighbors.at(-1)!);
    }
    if (neighbors.length > 0 && rng() < 0.3) {
      const { id } = pickFrom(rng, neighbors);
      if (rng() < 0.5) driver.engine.cancel(id, 'cancelled');
      else if (driver.eventsById.has(id)) driver.release(id);
    }
    await driver.step();
  }
  await driver.finish();
}

describe('Engine', () => {
  it.each(JOBS)('gives the same among 15 neighbors that come and go: %s', async (_, job) => {
    const expected = await outcomes.get(job);
    for (let seed = 0; seed < 3; seed += 1) {
      const rng = seededRng(seed);
      const driver = new EngineDriver({
        maxSequences: pickFrom(rng, [6, 16]),
        maxBatchedTokens: pickFrom(rng, [16, 64, 100]),
        prefixCacheBytes: pickFrom(rng, [0, 1e7]),
      });
      await amongNeighbors(job, driver, rng);

      expect(choicesOf(driver, job)).toEqual(expected);
      expect(driver.eventsOf(job).at(-1)?.type).toBe('end');
    }
  });

  it.each([1, 3, 8, 21, 55, 63])(
    'gives the same when a step may read %d tokens',
    async (maxBatchedTokens) => {
      for (const [name, job] of JOBS) {
        const driver = new EngineDriver({ maxBatchedTokens });
        driver.start(job);
        await driver.finish();
        expect(choicesOf(driver, job), name).toEqual(await outcomes.get(job));
      }
    },
  );

  it('gives the same under a sliding window, in any company and in chunks of any size', async () => {
    const rng = seededRng(60);
    const job = engineJob({ prompts: [promptOf(rng, 90)], maxTokens: 60, sampling: sampled });
    const expected = await alone(job, new TinyModel({ slidingWindow: 37 }));
    for (const maxBatchedTokens of [1, 7, 40, 64]) {
      const model = new TinyModel({ slidingWindow: 37 });
      const driver = new EngineDriver({ model, maxBatchedTokens });
      await amongNeighbors(job, driver, rng);
      expect(choicesOf(driver, job)).toEqual(expected);
    }
    expect(expected).not.toEqual(await alone(job));
  });

  it('copies a prefix that was computed before, to the same effect', async () => {
    const rng = seededRng(61);
    const prompt = promptOf(rng, 150);
    const driver = new EngineDriver({ prefixCacheBytes: 1e7 });
    const echo = { echo: true, topLogprobs: 1 };
    const repeats: readonly Partial<Job>[] = [
      { prompts: [prompt] },
      { prompts: [[...prompt.slice(0, 100), 5, 6]] },
      { prompts: [prompt] },
      { prompts: [prompt.slice(0, 128)] }, // whole blocks, of which the last token has to be read
      { prompts: [[...prompt.slice(0, 69), 5, 6]] }, // too little of the second to be worth it
      { prompts: [prompt], ...echo }, // whose logits are all wanted
    ];
    const cached: number[] = [];
    for (const fields of repeats) {
      const job = engineJob({ maxTokens: 10, sampling: sampled, ...fields });
      driver.start(job);
      await driver.finish();
      expect(choicesOf(driver, job)).toEqual(await alone(job));
      const last = driver.eventsOf(job).at(-1);
      if (last?.type === 'end') cached.push(last.usage.cachedTokens);
    }
    expect(cached).toEqual([0, 100, 128, 127, 64, 0]);
  });

  it('computes the prompt of another tenant as if nobody had sent it', async () => {
    const prompt = promptOf(seededRng(62), 300);
    const driver = new EngineDriver({ prefixCacheBytes: 1e7 });
    const worked: { numRead: number; numSteps: number; cached: number }[] = [];
    for (const name of ['mine', 'yours', 'mine', 'yours']) {
      const job = engineJob({ prompts: [prompt], maxTokens: 1, tenant: toTenantId(name) });
      const before = driver.model.calls.length;
      driver.start(job);
      await driver.finish();
      const calls = driver.model.calls.slice(before);
      const last = driver.eventsOf(job).at(-1);
      worked.push({
        numRead: calls.reduce((sum, { numRows, numNewTokens }) => sum + numRows * numNewTokens, 0),
        numSteps: calls.length,
        cached: last?.type === 'end' ? last.usage.cachedTokens : -1,
      });
    }

    const cold = { numRead: 300, numSteps: 5, cached: 0 };
    const warm = { numRead: 44, numSteps: 1, cached: 256 };
    expect(worked).toEqual([cold, cold, warm, warm]);
  });

  it('draws differently for each choice, and for the first as if it were the only one', async () => {
    const job = engineJob({ n: 3, maxTokens: 20, sampling: sampled });
    const [first, second, third] = await alone(job);
    expect(await alone({ ...job, n: 1 })).toEqual([first]);
    expect(new Set([first, second, third].map((choice) => choice?.text)).size).toBe(3);
  });

  it('reads prompts in chunks and lets decode ride along', async () => {
    const driver = new EngineDriver({ maxBatchedTokens: 16 });
    const [short, long] = [[3], Array<number>(100).fill(4)].map((prompt) =>
      engineJob({ prompts: [prompt], maxTokens: 30 }),
    ) as [Job, Job];
    driver.start(short);
    await driver.step();
    driver.start(long);
    for (let step = 0; step < 5; step += 1) {
      const before = driver.eventsOf(short).length;
      await driver.step();
      expect(driver.eventsOf(short)).toHaveLength(before + 1);
    }
    expect(driver.eventsOf(long)).toEqual([]);
  });

  it('ends at the end of the context', async () => {
    const model = new TinyModel({ maxSequenceTokens: 70 });
    const job = engineJob({ prompts: [promptOf(seededRng(1), 60)], maxTokens: null });
    const [choice] = await alone({ ...job, ignoreEos: true }, model);
    expect(choice).toMatchObject({ finishReason: 'length' });
    expect(choice?.tokenIds).toHaveLength(10);
  });

  it('cancels within a step, with the text that was held back', async () => {
    const expected = await alone(engineJob({ maxTokens: 12 }));
    const job = engineJob({ maxTokens: 12, stop: [`${expected[0]!.text.slice(0, 4)}!`] });
    const driver = new EngineDriver();
    driver.start(job);
    for (let i = 0; i < 4; i += 1) await driver.step();
    driver.engine.cancel(job.id, 'deadline');
    await driver.step();

    const [choice] = choicesOf(driver, job);
    expect(choice).toMatchObject({ finishReason: 'deadline' });
    expect(choice?.tokenIds).toEqual(expected[0]!.tokenIds.slice(0, 4));
    expect(expected[0]!.text.startsWith(choice!.text)).toBe(true);
    expect(driver.eventsOf(job).at(-1)?.type).toBe('end');
    expect(driver.engine.isIdle).toBe(true);
    expect(driver.engine.usage.numRunning).toBe(0);
  });

  it('says nothing more of a request that was released', async () => {
    const driver = new EngineDriver();
    const job = engineJob({ n: 2 });
    driver.start(job);
    await driver.step();
    driver.engine.release(job.id);
    const known = driver.eventsOf(job).length;
    await driver.step();

    expect(driver.eventsOf(job)).toHaveLength(known);
    expect(driver.engine.isIdle).toBe(true);
    expect(driver.engine.usage.numRunning).toBe(0);
  });

  it('ignores commands for requests that it does not know', () => {
    const driver = new EngineDriver();
    const { id } = engineJob();
    driver.engine.cancel(id, 'cancelled');
    driver.engine.release(id);
    expect(driver.engine.takeUpdates()).toEqual([]);
  });
});

it('frees every output of the model when it has read it', async () => {
  const outputs: ModelOutput[] = [];
  class Recorded extends TinyModel {
    override async run(input: ModelInput): Promise<ModelOutput> {
      const output = await super.run(input);
      outputs.push(output);
      return output;
    }
  }
  await alone(JOBS[0]![1], new Recorded());

  const held = outputs.flatMap(({ logits, newKeys, newValues }) =>
    [logits, ...newKeys, ...newValues].filter(({ buffer }) => buffer.byteLength > 0),
  );
  expect(outputs.length).toBeGreaterThan(60);
  expect(held).toEqual([]);
});
