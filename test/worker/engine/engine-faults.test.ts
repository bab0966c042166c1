import { describe, expect, it } from 'vitest';
import type { Job } from '../../../shared/protocol/job.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';
import { TinyModel } from '../../support/tiny-model.ts';
import { NAN_TOKEN, VOCAB_SIZE } from '../../support/tiny-tokens.ts';

const failure = { type: 'error', code: 'internal', param: null };

/** A prompt in which one token has no numbers. */
function poisonOf(length: number, at: number): number[] {
  return Array.from({ length }, (_, i) => (i === at ? NAN_TOKEN : 3 + (i % 9)));
}

async function expectUndisturbed(driver: EngineDriver, jobs: readonly Job[]): Promise<void> {
  for (const job of jobs) {
    const expected = foldChoices(await generate(job), job.n);
    expect(foldChoices(driver.eventsOf(job), job.n)).toEqual(expected);
    expect(driver.eventsOf(job).at(-1)?.type).toBe('end');
  }
}

/** As many requests as there are rows, so that every row is used again. */
function successors(count: number): Job[] {
  return Array.from({ length: count }, (_, i) =>
    engineJob({ prompts: [[3 + i, 4, 5]], maxTokens: 80 }),
  );
}

describe('Engine with a model that gives NaN', () => {
  it.each([
    [1, 0],
    [5, 4],
    [64, 63],
    [64, 10],
    [100, 10],
    [100, 80],
    [150, 64],
  ])('ends the request, and no other, for a prompt of %d with NaN at %d', async (length, at) => {
    const driver = new EngineDriver({ maxSequences: 4, prefixCacheBytes: 1e7 });
    const neighbors = successors(3);
    const bad = engineJob({ prompts: [poisonOf(length, at)] });
    driver.start(neighbors[0]!);
    driver.start(neighbors[1]!);
    driver.start(bad);
    driver.start(neighbors[2]!);
    await driver.finish();

    expect(driver.eventsOf(bad)).toMatchObject([failure]);
    await expectUndisturbed(driver, neighbors);
    const later = successors(4);
    for (const job of later) driver.start(job);
    await driver.finish();
    await expectUndisturbed(driver, later);
  });

  it('ends all choices of the request together', async () => {
    const driver = new EngineDriver({ maxSequences: 4, maxBatchedTokens: 32 });
    const bad = engineJob({ prompts: [[3, 4], poisonOf(20, 15)], n: 2, maxTokens: 30 });
    const neighbors = successors(2);
    for (const job of [bad, ...neighbors]) driver.start(job);
    await driver.finish();

    const events = driver.eventsOf(bad);
    expect(events.at(-1)).toMatchObject(failure);
    expect(events.filter(({ type }) => type === 'error')).toHaveLength(1);
    expect(driver.engine.usage.numRunning).toBe(0);
    await expectUndisturbed(driver, neighbors);
  });

  it('leaves no NaN behind when the request goes before anybody saw it', async () => {
    for (const leave of ['cancel', 'release'] as const) {
      const driver = new EngineDriver({ maxSequences: 2, maxBatchedTokens: 16 });
      const bad = engineJob({ prompts: [poisonOf(100, 3)] });
      const other = engineJob({ prompts: [[3]], maxTokens: 2 });
      for (const job of [other, bad]) driver.start(job);
      await driver.step(); // reads a part of the prompt, whose logits nobody wants
      if (leave === 'cancel') driver.engine.cancel(bad.id, 'cancelled');
      else driver.release(bad.id);
      const later = successors(4);
      for (const job of later) driver.start(job);
      await driver.finish();

      await expectUndisturbed(driver, [other, ...later]);
    }
  });

  it('leaves no NaN where a row stood before it moved', async () => {
    const driver = new EngineDriver({ maxSequences: 3, maxBatchedTokens: 12 });
    const short = engineJob({ prompts: [[3]], maxTokens: 2 });
    const bad = engineJob({ prompts: [poisonOf(60, 3)] });
    driver.start(short);
    driver.start(bad);
    await driver.finish(); // the bad one moves to the row that the short one leaves
    const later = successors(5);
    for (const job of later) driver.start(job);
    await driver.finish();

    expect(driver.eventsOf(bad)).toMatchObject([failure]);
    await expectUndisturbed(driver, [short, ...later]);
  });

  it('goes on after a call in which everything was NaN, and keeps none of it as a prefix', async () => {
    const model = new TinyModel();
    const driver = new EngineDriver({ model, prefixCacheBytes: 1e7 });
    const prompt = poisonOf(130, 200);
    const jobs = [0, 1, 2].map(() => engineJob({ prompts: [prompt], maxTokens: 5 }));
    driver.start(jobs[0]!);
    model.isFaulty = true;
    await driver.step();
    model.isFaulty = false;
    await driver.finish();
    expect(driver.eventsOf(jobs[0]!)).toMatchObject([failure]);

    for (const job of jobs.slice(1)) {
      driver.start(job);
      await driver.finish();
    }
    await expectUndisturbed(driver, jobs.slice(1));
  });

  it('answers each of many requests, good ones rightly, over a random hour', async () => {
    const rng = seededRng(70);
    const driver = new EngineDriver({
      maxSequences: 5,
      maxBatchedTokens: 40,
      prefixCacheBytes: 1e6,
    });
    const good: Job[] = [];
    const bad: Job[] = [];
    for (let i = 0; i < 60; i += 1) {
      const length = pickFrom(rng, [1, 4, 40, 64, 90, 130]);
      const prompt = Array.from({ length }, () => integerFrom(rng, 3, VOCAB_SIZE));
      const isBad = rng() < 0.35;
      if (isBad) prompt[integerFrom(rng, 0, length)] = NAN_TOKEN;
      const maxTokens = integerFrom(rng, 1, 25);
      const job = engineJob({
        prompts: [prompt],
        maxTokens,
        sampling: { ...PLAIN_PARAMS, temperature: 0.7, seed: i },
      });
      (isBad ? bad : good).push(job);
      driver.start(job);
      for (let step = integerFrom(rng, 0, 4); step > 0; step -= 1) await driver.step();
    }
    await driver.finish();

    expect(bad.length).toBeGreaterThan(10);
    for (const job of bad) expect(driver.eventsOf(job).at(-1)).toMatchObject(failure);
    await expectUndisturbed(driver, good);
  });
});

describe('Engine with a job that the model cannot run', () => {
  it.each<[string, Partial<Job>, string]>([
    [
      'a token that it lacks',
      { prompts: [[3], [4, VOCAB_SIZE]] },
      `token ${VOCAB_SIZE}; the limit`,
    ],
    ['no token', { prompts: [[]] }, 'a prompt without tokens'],
    [
      'more tokens than it has positions',
      { prompts: [poisonOf(71, 99)], echo: true, topLogprobs: 0, maxTokens: 0 },
      '71 tokens; the limit is 70',
    ],
    [
      'a window beyond its positions',
      { contextPolicy: { type: 'sinks', sinkTokens: 4, windowTokens: 67 } },
      'sinks and a window of 71 tokens; the limit is 70',
    ],
    ['a token that it lacks, echoed', { prompts: [[VOCAB_SIZE]], echo: true }, 'the limit is'],
  ])('says so of %s, reads none of it and goes on', async (_, fields, message) => {
    const driver = new EngineDriver({ model: new TinyModel({ maxSequenceTokens: 70 }) });
    const bad = engineJob(fields);
    const other = engineJob({ prompts: [[3, 4]] });
    driver.start(bad);
    driver.start(other);
    await driver.finish();

    const fault = { type: 'error', code: 'invalid_request' };
    const expected = { ...fault, message: expect.stringContaining(message) };
    expect(driver.eventsOf(bad).at(-1)).toMatchObject(expected);
    expect(driver.model.calls.every(({ numRows }) => numRows === 1)).toBe(true);
    await expectUndisturbed(driver, [other]);
  });
});
