import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { MAX_DRAFT_TOKENS, type ProposerName } from '../../worker/speculative/proposer.ts';
import { Drafting, finish, predicted } from './drafting.ts';
import { type EngineDriver, publishedOf } from './engine-driver.ts';
import type { ModelPair } from './model-pair.ts';
import { pickFrom, seededRng } from './random.ts';
import { jobOfCase, outcomeOf, STYLES } from './speculation-cases.ts';

/** Starts the jobs one by one, and now and then cancels or releases one that runs. */
async function runWithComingsAndGoings(driver: EngineDriver, jobs: readonly Job[]) {
  const rng = seededRng(3);
  const waiting = [...jobs];
  const running = new Set<Job>();
  const cancelled = new Set<Job>();
  const released = new Set<Job>();
  while (waiting.length > 0 || !driver.engine.isIdle) {
    const next = rng() < 0.4 ? waiting.shift() : undefined;
    if (next !== undefined) {
      driver.start(next);
      running.add(next);
    }
    if (rng() < 0.08 && running.size > 0) {
      const leaving = pickFrom(rng, [...running]);
      running.delete(leaving);
      if (cancelled.size > released.size) {
        released.add(leaving);
        driver.release(leaving.id);
      } else {
        cancelled.add(leaving);
        driver.engine.cancel(leaving.id, 'cancelled');
      }
    }
    await driver.step();
    for (const job of running) if (driver.eventsOf(job).at(-1)?.type === 'end') running.delete(job);
  }
  return { cancelled, released };
}

/**
 * What must hold of every proposer, whatever the models are: all of it is held against plain
 * decoding.
 */
export function describeSpeculation(
  name: string,
  proposers: readonly ProposerName[],
  open: () => Promise<ModelPair>,
): void {
  describe.each(proposers)(`speculation of ${name}, drafted by %s`, (proposer) => {
    let drafting: Drafting;
    beforeAll(async () => {
      drafting = new Drafting(await open());
    });
    afterAll(() => drafting.pair[Symbol.asyncDispose]());

    it('leaves the others alone when requests join, leave and are cancelled', async () => {
      const cases = Array.from({ length: 30 }, (_, i) =>
        jobOfCase({ prompt: i, style: (i * 5) % STYLES.length }, drafting.pair),
      );
      const expected = await drafting.plain(cases);
      const jobs = predicted(cases, expected);
      const driver = drafting.open({ proposer });
      const { cancelled, released } = await runWithComingsAndGoings(driver, jobs);

      expect(Math.min(cancelled.size, released.size)).toBeGreaterThan(1);
      for (const [i, job] of jobs.entries()) {
        if (released.has(job)) continue;
        const outcome = outcomeOf(driver, job);
        if (!cancelled.has(job)) expect(outcome).toEqual(expected[i]);
        expect(outcome.tokenIds).toEqual(expected[i]!.tokenIds.slice(0, outcome.tokenIds.length));
      }
    });

    it.each([0, 1])('ends a draft where the block ends, at temperature %d', async (temperature) => {
      const jobs = [57, 60, 61, 62, 63, 64, 65, 121, 127, 128].map((numTokens, seed) =>
        drafting.job(numTokens, { seed, temperature, maxTokens: 20 }),
      );
      const expected = await drafting.plain(jobs);
      const driver = drafting.open({ proposer, numDraftTokens: MAX_DRAFT_TOKENS });

      expect(await finish(driver, predicted(jobs, expected))).toEqual(expected);
    });

    it.each([2, 8, MAX_DRAFT_TOKENS])(
      'stops at the limits of output and context, drafting %d',
      async (numDraftTokens) => {
        const short = [1, 2, 3, 4, 9].map((maxTokens, seed) =>
          drafting.job(20, { seed, temperature: 0.7, maxTokens }),
        );
        const full = [70, 71, 76, 79].map((numTokens, seed) =>
          drafting.job(numTokens, { seed, temperature: 0.7, maxTokens: null }),
        );
        const jobs = [...short, ...full];
        const maxSequenceTokens = 80;
        const expected = await finish(drafting.openPlain(maxSequenceTokens), jobs);
        const driver = drafting.open({ proposer, numDraftTokens, maxSequenceTokens });

        expect(await finish(driver, predicted(jobs, expected))).toEqual(expected);
        const lengths = expected.map(({ tokenIds }) => tokenIds.length);
        expect(lengths).toEqual([1, 2, 3, 4, 9, 10, 9, 4, 1]);
      },
    );

    it('goes on from any place at which another worker stopped', async () => {
      const jobs = [0, 0.7, 1.3].map((temperature, seed) => {
        const job = drafting.job(40 + seed, { seed, temperature, maxTokens: 40, topLogprobs: 1 });
        return { ...job, sampling: { ...job.sampling, frequencyPenalty: 0.5 } };
      });
      const first = drafting.openPlain();
      const expected = await finish(first, jobs);

      for (const numPublished of [1, 23, 24, 39]) {
        const second = drafting.open({ proposer, numDraftTokens: 5 });
        for (const job of predicted(jobs, expected)) {
          second.start(job, publishedOf(first.eventsOf(job).slice(0, numPublished), 1));
        }
        await second.finish();
        for (const [i, job] of jobs.entries()) {
          const { tokenIds, logprobs } = outcomeOf(second, job);
          expect(tokenIds).toEqual(expected[i]!.tokenIds.slice(numPublished));
          expect(logprobs).toEqual(expected[i]!.logprobs!.slice(numPublished));
        }
      }
    });

    it('takes beginnings from the prefix cache and gives it blocks of accepted drafts', async () => {
      const jobs = [0, 1, 2, 0, 1].map((seed) =>
        drafting.job(100 + seed, { seed, temperature: 0.7, maxTokens: 50 }),
      );
      const expected = await drafting.plain(jobs);
      const later = jobs.map((job, i) => ({
        ...job,
        id: createRequestId(),
        prompts: [[...job.prompts[0]!, ...expected[i]!.tokenIds.slice(0, 40)]],
        maxTokens: 10,
      }));
      const options = { proposer, numDraftTokens: 6, prefixCacheBytes: 1e8, maxSequences: 3 };
      const driver = drafting.open(options);

      expect(await finish(driver, predicted(jobs, expected))).toEqual(expected);
      expect(await finish(driver, later)).toEqual(await drafting.plain(later));
      const end = driver.eventsOf(later[0]!).at(-1);
      expect(end).toMatchObject({ usage: { cachedTokens: 128 } });
    });
  });
}
