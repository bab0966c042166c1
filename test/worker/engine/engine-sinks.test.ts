import { describe, expect, it } from 'vitest';
import type { TokenId } from '../../../shared/ids.ts';
import {
  contextTokens,
  type SinkPolicy,
  tokensToResume,
} from '../../../shared/protocol/endless.ts';
import type { PublishedChoice } from '../../../shared/protocol/generation.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import {
  type ChoiceSoFar,
  type DriverOptions,
  EngineDriver,
  engineJob,
  foldChoices,
  generate,
  publishedOf,
} from '../../support/engine-driver.ts';
import { createSpeculator, createTinyPair, type ModelPair } from '../../support/model-pair.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

const sinks = (sinkTokens: number, windowTokens: number): SinkPolicy => ({
  type: 'sinks',
  sinkTokens,
  windowTokens,
});

const words = (count: number, seed = 1): TokenId[] => {
  const rng = seededRng(seed);
  return Array.from({ length: count }, () => integerFrom(rng, 3, 16));
};

/** A job that slides, and whose choices depend on every number there is. */
function slidingJob(fields: Partial<Job> = {}): Job {
  const job = engineJob();
  return engineJob({
    prompts: [words(9)],
    maxTokens: 300,
    ignoreEos: true,
    contextPolicy: sinks(4, 20),
    sampling: { ...job.sampling, temperature: 0.8, seed: 5 },
    ...fields,
  });
}

async function alone(job: Job, options: DriverOptions = {}): Promise<ChoiceSoFar> {
  return foldChoices(await generate(job, options), 1)[0]!;
}

async function together(jobs: readonly Job[], options: DriverOptions): Promise<ChoiceSoFar[]> {
  const driver = new EngineDriver(options);
  for (const job of jobs) driver.start(job);
  await driver.finish();
  return jobs.map((job) => foldChoices(driver.eventsOf(job), 1)[0]!);
}

/** Jobs of all kinds: windows of a token and of several blocks, prompts shorter and longer than they. */
const JOBS: readonly Job[] = [
  slidingJob(),
  slidingJob({ contextPolicy: sinks(0, 20), prompts: [words(3, 2)] }),
  slidingJob({ contextPolicy: sinks(4, 1), maxTokens: 150 }),
  slidingJob({ contextPolicy: sinks(4, 100), prompts: [words(2, 3)] }),
  slidingJob({ contextPolicy: sinks(64, 63), prompts: [words(500, 4)], maxTokens: 400 }),
  slidingJob({ contextPolicy: sinks(7, 150), prompts: [words(1200, 5)], maxTokens: 250 }),
  slidingJob({ contextPolicy: sinks(4, 12), prompts: [words(4000, 6)], maxTokens: 120 }),
  slidingJob({ contextPolicy: { type: 'stop' }, prompts: [words(70, 7)] }),
  slidingJob({
    contextPolicy: sinks(4, 30),
    sampling: {
      ...slidingJob().sampling,
      presencePenalty: 0.4,
      frequencyPenalty: 0.3,
      repetitionPenalty: 1.3,
    },
  }),
];

describe('Engine under sinks', () => {
  it('equals stop while the window covers everything', async () => {
    const sampling = { ...slidingJob().sampling, frequencyPenalty: 0.3, repetitionPenalty: 1.2 };
    for (const prompt of [words(5), words(150, 2)]) {
      const job = { prompts: [prompt], maxTokens: 400 - prompt.length, sampling };
      const expected = await alone(slidingJob({ ...job, contextPolicy: { type: 'stop' } }));

      expect(expected.tokenIds).toHaveLength(400 - prompt.length);
      expect(await alone(slidingJob({ ...job, contextPolicy: sinks(4, 396) }))).toEqual(expected);
    }
  });

  it('goes on where stop must end', async () => {
    const outcome = await alone(slidingJob({ maxTokens: 3000, contextPolicy: sinks(4, 60) }));
    expect(outcome.tokenIds).toHaveLength(3000);
    expect(outcome.finishReason).toBe('length');
  });

  it('gives the same in any batch and however tokens are cut', async () => {
    const expected = await Promise.all(JOBS.map((job) => alone(job)));
    for (const options of [
      { maxSequences: JOBS.length, maxBatchedTokens: 64 },
      { maxSequences: JOBS.length, maxBatchedTokens: 11 },
      { maxSequences: 3, maxBatchedTokens: 200, prefixCacheBytes: 2 ** 20 },
    ]) {
      expect(await together(JOBS, options)).toEqual(expected);
    }
  });

  it('gives the same whoever drafts', async () => {
    const pair = createTinyPair();
    for (const proposer of ['ngram', 'draft', 'staged', 'lookahead'] as const) {
      const plain = await together(JOBS, { served: pair.target, maxSequences: JOBS.length });
      const drafted = JOBS.map((job) => ({ ...job, speculation: 'auto' as const }));
      const { outcomes, numAccepted } = await draft(drafted, pair, proposer);

      expect(outcomes).toEqual(plain);
      expect(numAccepted).toBeGreaterThan(40);
    }
  });

  it('is taken over at any token, from no more of the log than is kept', async () => {
    const rng = seededRng(9);
    for (const job of JOBS) {
      const events = await generate(job);
      const { length } = foldChoices(events, 1)[0]!.tokenIds;
      for (let trial = 0; trial < 4; trial += 1) {
        const numPublished = integerFrom(rng, 1, length);
        const [all] = publishedOf(events.slice(0, numPublished), 1);
        const published = trimmed(all!, tokensToResume(job.contextPolicy));
        const rest = foldChoices(await generate(job, {}, [published]), 1)[0]!;

        const whole = foldChoices(events, 1)[0]!;
        expect(rest.tokenIds).toEqual(whole.tokenIds.slice(all!.tokenIds.length));
        expect(rest.text).toBe(whole.text.slice(all!.textLength));
        expect(rest.finishReason).toBe(whole.finishReason);
      }
    }
  });

  it('depends on the sinks as long as they are prompt, however long ago', async () => {
    const prompt = words(9);
    const other = [...prompt.slice(0, 1), prompt[1]! === 5 ? 6 : 5, ...prompt.slice(2)];
    const outcome = await alone(slidingJob({ prompts: [[...prompt, ...words(900, 3)]] }));
    const changed = await alone(slidingJob({ prompts: [[...other, ...words(900, 3)]] }));
    const unseen = await alone(
      slidingJob({ prompts: [[...prompt, 3, ...words(899, 4), ...words(900, 3)]] }),
    );

    expect(changed.tokenIds).not.toEqual(outcome.tokenIds);
    expect(unseen.tokenIds).not.toEqual(changed.tokenIds);
  });

  it('keeps no more of a sequence than a context', async () => {
    const job = slidingJob({ maxTokens: null });
    const driver = new EngineDriver();
    driver.start(job);
    let numTokens = 0;
    while (numTokens < 4 * contextTokens(sinks(4, 20))) {
      await driver.step();
      numTokens = foldChoices(driver.eventsOf(job), 1)[0]!.tokenIds.length;
    }
    const longest = driver.model.calls.reduce(
      (max, { positions }) => Math.max(max, ...positions),
      0,
    );
    expect(longest).toBeLessThan(contextTokens(sinks(4, 20)));
    expect(Math.max(...driver.model.calls.map((call) => call.frozenCapacity))).toBe(64);

    driver.engine.cancel(job.id, 'cancelled');
    await driver.step();
    expect(foldChoices(driver.eventsOf(job), 1)[0]!.finishReason).toBe('cancelled');
  });

  it('ends at a stop string and a deadline as ever', async () => {
    const endless = slidingJob({ maxTokens: null });
    const long = await alone(slidingJob({ maxTokens: 600 }));
    const stop = long.text.slice(-4);
    const at = long.text.indexOf(stop);
    const stopped = await alone({ ...endless, stop: [stop] });

    expect(stopped.finishReason).toBe('stop');
    expect(stopped.text).toBe(long.text.slice(0, at));
  });
});

function trimmed(choice: PublishedChoice, numKept: number): PublishedChoice {
  const numTrimmed = Math.max(0, choice.tokenIds.length - numKept);
  return { ...choice, tokenIds: choice.tokenIds.slice(numTrimmed), numTrimmed };
}

async function draft(
  jobs: readonly Job[],
  pair: ModelPair,
  proposer: 'ngram' | 'draft' | 'staged' | 'lookahead',
) {
  const maxSequences = jobs.length;
  const settings = { proposer, numDraftTokens: 4, maxSequences, outputs: null };
  const driver = new EngineDriver({
    served: pair.target,
    maxSequences,
    maxBatchedTokens: 256,
    speculator: createSpeculator(pair.draft, settings),
  });
  for (const job of jobs) driver.start(job);
  await driver.finish();
  const outcomes = jobs.map((job) => foldChoices(driver.eventsOf(job), 1)[0]!);
  const numAccepted = jobs
    .map((job) => driver.eventsOf(job).at(-1))
    .reduce((sum, end) => {
      return sum + (end?.type === 'end' ? end.usage.acceptedPredictionTokens : 0);
    }, 0);
  return { outcomes, numAccepted };
}
