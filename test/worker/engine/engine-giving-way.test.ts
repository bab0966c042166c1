import { describe, expect, it } from 'vitest';
import type { Job } from '../../../shared/protocol/job.ts';
import { rowBytes as rowBytesOf } from '../../../worker/cache/layout.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { createErraticSpeculator, createTinyPair } from '../../support/model-pair.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, type Rng, seededRng } from '../../support/random.ts';
import { TinyModel } from '../../support/tiny-model.ts';
import { VOCAB_SIZE } from '../../support/tiny-tokens.ts';

const sampled = { ...PLAIN_PARAMS, temperature: 0.8, seed: 99 };

function promptOf(rng: Rng, length: number): number[] {
  return Array.from({ length }, () => integerFrom(rng, 3, VOCAB_SIZE));
}

const rowBytes = (capacity: number) => rowBytesOf(new TinyModel().shape, capacity);

/** Requests of class batch, of all kinds. */
function jobs(): Readonly<Record<string, Job>> {
  const rng = seededRng(70);
  const batchJob = (fields: Partial<Job>) => engineJob({ class: 'batch', ...fields });
  return {
    greedy: batchJob({ prompts: [promptOf(rng, 5)], maxTokens: 70 }),
    'a long prompt': batchJob({ prompts: [promptOf(rng, 200)], maxTokens: 30, sampling: sampled }),
    penalties: batchJob({
      prompts: [promptOf(rng, 30)],
      maxTokens: 60,
      sampling: { ...sampled, presencePenalty: 0.8, frequencyPenalty: 0.5, repetitionPenalty: 1.3 },
    }),
    'choices and stop strings': batchJob({
      prompts: [promptOf(rng, 9), promptOf(rng, 61)],
      n: 2,
      maxTokens: 40,
      sampling: sampled,
      stop: ['bc', 'd '],
    }),
    logprobs: batchJob({
      prompts: [promptOf(rng, 150)],
      maxTokens: 20,
      topLogprobs: 3,
      echo: true,
      sampling: sampled,
    }),
    drafts: batchJob({
      prompts: [Array.from({ length: 70 }, (_, i) => 3 + (i % 7))],
      maxTokens: 60,
      speculation: 'auto',
      sampling: { ...sampled, temperature: 0.3 },
    }),
  };
}

const JOBS = Object.entries(jobs());

function choicesOf(driver: EngineDriver, job: Job) {
  return foldChoices(driver.eventsOf(job), job.prompts.length * job.n);
}

async function alone(job: Job) {
  return foldChoices(await generate(job), job.prompts.length * job.n);
}

/** Interactive requests take both rows again and again, each time for a step or two. */
async function underPressure(job: Job, driver: EngineDriver, rng: Rng): Promise<void> {
  const isOver = (each: Job) => driver.eventsOf(each).at(-1)?.type === 'end';
  let other: Job | null = null;
  driver.start(job);
  for (let step = 0; !driver.engine.isIdle; step += 1) {
    if (step > 5_000) throw new Error('the engine does not come to an end');
    if (!isOver(job) && (other === null || isOver(other)) && rng() < 0.15) {
      const prompts = [promptOf(rng, 2), promptOf(rng, 1)];
      other = engineJob({ prompts, maxTokens: integerFrom(rng, 1, 3), speculation: 'auto' });
      driver.start(other);
    }
    await driver.step();
  }
}

describe('a batch job that loses its rows to others', () => {
  it.each(JOBS)('gives the same as undisturbed: %s', async (_, job) => {
    const expected = await alone(job);
    let numLost = 0;
    for (let seed = 0; seed < 8; seed += 1) {
      const rng = seededRng(seed);
      const driver = new EngineDriver({
        maxSequences: 2,
        maxBatchedTokens: [16, 64, 100, 30][seed % 4]!,
        kvCacheBytes: [Infinity, rowBytes(256), 2 * rowBytes(256)][seed % 3]!,
        prefixCacheBytes: seed % 2 === 0 ? 0 : 1e7,
      });
      await underPressure(job, driver, rng);

      expect(choicesOf(driver, job)).toEqual(expected);
      numLost += driver.engine.usage.numPreemptions;
    }
    expect(numLost).toBeGreaterThan(30);
  });

  it.each(JOBS)('gives the same when all of them are drafted for: %s', async (_, fields) => {
    const job: Job = { ...fields, speculation: 'auto' };
    const pair = createTinyPair();
    const expected = foldChoices(
      await generate({ ...job, speculation: 'off' }, { served: pair.target }),
      job.prompts.length * job.n,
    );
    const options = { maxSequences: 2, outputs: null };
    const driver = new EngineDriver({
      served: pair.target,
      maxSequences: 2,
      maxBatchedTokens: 100,
      speculator: createErraticSpeculator(pair.draft, options),
    });
    await underPressure(job, driver, seededRng(3));

    expect(choicesOf(driver, job)).toEqual(expected);
    expect(driver.engine.usage.numPreemptions).toBeGreaterThan(0);
    const last = driver.eventsOf(job).at(-1);
    const usage = last?.type === 'end' ? last.usage : null;
    expect(usage?.acceptedPredictionTokens).toBeGreaterThan(0);
  });

  it.each([
    ['that it still has', Infinity, 1],
    ['that the prefix cache still holds', rowBytes(256), 8],
  ])('reads nothing again %s, and says nothing of it', async (_, kvCacheBytes, numRead) => {
    const job = engineJob({ class: 'batch', prompts: [promptOf(seededRng(1), 200)], maxTokens: 9 });
    const options = { maxSequences: 1, prefixCacheBytes: 1e7, kvCacheBytes };
    const driver = new EngineDriver(options);
    driver.start(job);
    for (let i = 0; i < 5; i += 1) await driver.step();
    driver.start(engineJob({ maxTokens: 1 }));
    await driver.step();
    const numCalls = driver.model.calls.length;
    await driver.step();

    expect(driver.engine.usage.numPreemptions).toBe(1);
    expect(driver.model.calls.length).toBe(numCalls + 1);
    expect(driver.model.calls.at(-1)?.numNewTokens).toBe(numRead);
    await driver.finish();
    expect(driver.eventsOf(job).at(-1)).toMatchObject({ usage: { cachedTokens: 0 } });
  });

  it('goes on between others that take its only row again and again', async () => {
    const fields = { maxTokens: 60, ignoreEos: true, sampling: sampled };
    const sinks = { type: 'sinks', sinkTokens: 4, windowTokens: 200 } as const;
    const endless = engineJob({ ...fields, maxTokens: null, contextPolicy: sinks });
    const driver = new EngineDriver({ maxSequences: 1 });
    driver.start(endless);
    for (let step = 0; step < 600; step += 1) {
      if (step % 18 === 0) driver.start(engineJob({ maxTokens: 8, ignoreEos: true }));
      await driver.step();
    }
    const { tokenIds } = choicesOf(driver, endless)[0]!;
    expect(tokenIds.length).toBe(600 - 33 * 8 - 6); // one in each step that was left to it
    driver.engine.cancel(endless.id, 'deadline');
    const alone = { ...endless, contextPolicy: { type: 'stop' }, maxTokens: 200 } as const;
    const [expected] = foldChoices(await generate(alone), 1);
    expect(tokenIds.slice(0, 200)).toEqual(expected?.tokenIds);
  });

  it('is cancelled where it waits, with all that it had', async () => {
    const job = engineJob({ class: 'batch', maxTokens: 30, ignoreEos: true });
    const expected = await alone(job);
    const driver = new EngineDriver({ maxSequences: 1 });
    driver.start(job);
    for (let i = 0; i < 6; i += 1) await driver.step();
    driver.start(engineJob({ maxTokens: 20, ignoreEos: true }));
    await driver.step();
    expect(driver.engine.usage.numWaiting).toBe(1);
    driver.engine.cancel(job.id, 'cancelled');
    await driver.step();

    const [choice] = choicesOf(driver, job);
    expect(choice).toMatchObject({ finishReason: 'cancelled' });
    expect(choice?.tokenIds).toEqual(expected[0]?.tokenIds.slice(0, 6));
    expect(driver.engine.usage.numWaiting).toBe(0);
  });
});

describe('requests without bound', () => {
  it('share rows by turns with each other and with others, to the same effect', async () => {
    const endless = Array.from({ length: 3 }, (_, i) =>
      engineJob({
        prompts: [promptOf(seededRng(i), 20 + i)],
        maxTokens: null,
        ignoreEos: true,
        contextPolicy: { type: 'sinks', sinkTokens: 4, windowTokens: 500 },
        sampling: { ...sampled, seed: i },
      }),
    );
    const short = engineJob({ class: 'batch', maxTokens: 40, ignoreEos: true });
    const driver = new EngineDriver({ maxSequences: 1, quantumTokens: 10 });
    for (const job of endless) driver.start(job);
    driver.start(short);
    for (let i = 0; i < 420; i += 1) await driver.step();

    expect(choicesOf(driver, short)).toEqual(await alone(short));
    for (const job of endless) {
      const [choice] = choicesOf(driver, job);
      expect(choice?.tokenIds.length).toBeGreaterThan(90);
      const same = { ...job, contextPolicy: { type: 'stop' }, maxTokens: 90 } as const;
      expect(choice?.tokenIds.slice(0, 90)).toEqual((await alone(same))[0]?.tokenIds);
      driver.engine.cancel(job.id, 'deadline');
    }
    await driver.finish();
  });
});
