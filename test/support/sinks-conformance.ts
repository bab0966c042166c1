import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { createRequestId, type TokenId } from '../../shared/ids.ts';
import { type SinkPolicy, tokensToResume } from '../../shared/protocol/endless.ts';
import type { PublishedChoice } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import {
  type ChoiceSoFar,
  type DriverOptions,
  EngineDriver,
  engineJob,
  foldChoices,
  generate,
  publishedOf,
} from './engine-driver.ts';
import { createErraticSpeculator, createSpeculator, type ModelPair } from './model-pair.ts';
import { integerFrom, seededRng } from './random.ts';
import { draftedTokens } from './speculation-cases.ts';

const MINUTE_MS = 60_000;

export const sinks = (sinkTokens: number, windowTokens: number): SinkPolicy => ({
  type: 'sinks',
  sinkTokens,
  windowTokens,
});

/** A job that slides soon and draws its tokens. */
export function slidingJob(fields: Partial<Job> = {}): Job {
  return engineJob({
    maxTokens: 200,
    ignoreEos: true,
    contextPolicy: sinks(4, 20),
    sampling: { ...engineJob().sampling, temperature: 0.8, seed: 5 },
    ...fields,
  });
}

/**
 * Jobs of all kinds: windows of a token and of several blocks, prompts shorter and longer than
 * they.
 */
function jobsOf({ prompts }: ModelPair): readonly Job[] {
  const text = (numTokens: number, first: number): TokenId[] => {
    const tokenIds: TokenId[] = [];
    for (let i = first; tokenIds.length < numTokens; i += 1) {
      tokenIds.push(...prompts[i % prompts.length]!);
    }
    return tokenIds.slice(0, numTokens);
  };
  const { sampling } = slidingJob();
  const penalties = { presencePenalty: 0.4, frequencyPenalty: 0.3, repetitionPenalty: 1.3 };
  return [
    slidingJob({ prompts: [text(9, 1)] }),
    slidingJob({ prompts: [text(3, 2)], contextPolicy: sinks(0, 20) }),
    slidingJob({ prompts: [text(9, 3)], contextPolicy: sinks(4, 1), maxTokens: 150 }),
    slidingJob({ prompts: [text(2, 4)], contextPolicy: sinks(4, 100) }),
    slidingJob({ prompts: [text(500, 5)], contextPolicy: sinks(64, 63), maxTokens: 250 }),
    slidingJob({ prompts: [text(1200, 6)], contextPolicy: sinks(7, 150), maxTokens: 250 }),
    slidingJob({ prompts: [text(4000, 7)], contextPolicy: sinks(4, 12), maxTokens: 120 }),
    slidingJob({ prompts: [text(70, 8)], contextPolicy: { type: 'stop' } }),
    slidingJob({
      prompts: [text(9, 9)],
      contextPolicy: sinks(4, 30),
      sampling: { ...sampling, ...penalties },
    }),
    // Stops soon after, of which a trimmed log knows only how many tokens there were.
    slidingJob({
      prompts: [text(9, 10)],
      contextPolicy: sinks(4, 1),
      minTokens: 60,
      stop: ['a', 'e', ' '],
    }),
  ];
}

/** What every model must hold to while texts slide. */
export function describeSinks(name: string, open: () => Promise<ModelPair>): void {
  describe(`sinks with ${name}`, () => {
    let pair: ModelPair;
    let jobs: readonly Job[];
    let expected: readonly ChoiceSoFar[];

    beforeAll(async () => {
      pair = await open();
      jobs = jobsOf(pair);
      expected = await Promise.all(jobs.map(async (job) => (await run([job]))[0]!));
    }, MINUTE_MS);
    afterAll(() => pair[Symbol.asyncDispose]());

    async function run(each: readonly Job[], options: DriverOptions = {}): Promise<ChoiceSoFar[]> {
      return (await runOf(each, { served: pair.target, ...options })).outcomes;
    }

    it(
      'gives the same in any batch and however tokens are cut',
      async () => {
        for (const options of [
          { maxSequences: jobs.length, maxBatchedTokens: 64 },
          { maxSequences: jobs.length, maxBatchedTokens: 11 },
          { maxSequences: 3, maxBatchedTokens: 200, prefixCacheBytes: 2 ** 24 },
        ]) {
          expect(await run(jobs, options)).toEqual(expected);
        }
      },
      MINUTE_MS,
    );

    it(
      'gives the same when its beginning was computed before',
      async () => {
        const again = jobs.map((job) => ({ ...job, id: createRequestId() }));
        const options = { maxSequences: 3, prefixCacheBytes: 2 ** 26 };
        const both = await runOf([...jobs, ...again], { served: pair.target, ...options });

        expect(both.outcomes).toEqual([...expected, ...expected]);
        const sliding = again.filter(({ contextPolicy }) => contextPolicy.type === 'sinks');
        const cached = sliding.map((job) => cachedTokens(both.driver, job));
        expect(Math.max(...cached)).toBeGreaterThanOrEqual(BLOCK_SIZE);
      },
      MINUTE_MS,
    );

    it.each(['ngram', 'draft', 'staged', 'lookahead', 'any'] as const)(
      'gives the same drafted by %s',
      async (proposer) => {
        const settings = { maxSequences: jobs.length, outputs: null };
        const { outcomes, driver } = await runOf(
          jobs.map((job) => ({ ...job, speculation: 'auto' })),
          {
            served: pair.target,
            maxSequences: jobs.length,
            maxBatchedTokens: 256,
            speculator:
              proposer === 'any'
                ? createErraticSpeculator(pair.draft, settings)
                : createSpeculator(pair.draft, { ...settings, proposer, numDraftTokens: 4 }),
          },
        );
        const numAccepted = jobs.reduce((sum, job) => sum + draftedTokens(driver, job).accepted, 0);

        expect(outcomes).toEqual(expected);
        expect(numAccepted).toBeGreaterThan(20);
      },
      MINUTE_MS,
    );

    it(
      'is taken over at any token, from no more of the log than is kept',
      async () => {
        const rng = seededRng(9);
        for (const [i, job] of jobs.entries()) {
          const events = await generate(job, { served: pair.target });
          const whole = expected[i]!;
          for (let trial = 0; trial < 3; trial += 1) {
            const numPublished = integerFrom(rng, 1, whole.tokenIds.length);
            const [all] = publishedOf(events.slice(0, numPublished), 1);
            const published = trimmed(all!, tokensToResume(job.contextPolicy));
            const rest = await generate(job, { served: pair.target }, [published]);

            const { tokenIds, text, finishReason } = foldChoices(rest, 1)[0]!;
            expect(tokenIds).toEqual(whole.tokenIds.slice(all!.tokenIds.length));
            expect(text).toBe(whole.text.slice(all!.textLength));
            expect(finishReason).toBe(whole.finishReason);
          }
        }
      },
      MINUTE_MS,
    );
  });
}

function cachedTokens(driver: EngineDriver, job: Job): number {
  const end = driver.eventsOf(job).at(-1);
  return end?.type === 'end' ? end.usage.cachedTokens : 0;
}

async function runOf(jobs: readonly Job[], options: DriverOptions) {
  const driver = new EngineDriver(options);
  for (const job of jobs) driver.start(job);
  await driver.finish();
  return { driver, outcomes: jobs.map((job) => foldChoices(driver.eventsOf(job), 1)[0]!) };
}

/** As much of it as a log still has that is trimmed behind its readers. */
function trimmed(choice: PublishedChoice, numKept: number): PublishedChoice {
  const numTrimmed = Math.max(0, choice.tokenIds.length - numKept);
  return { ...choice, tokenIds: choice.tokenIds.slice(numTrimmed), numTrimmed };
}
