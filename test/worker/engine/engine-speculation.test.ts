import { describe, expect, it } from 'vitest';
import type { Job } from '../../../shared/protocol/job.ts';
import { Drafter } from '../../../worker/engine/drafter.ts';
import { Speculator } from '../../../worker/engine/speculator.ts';
import { FixedPolicy } from '../../../worker/speculative/policy.ts';
import type { ProposerName } from '../../../worker/speculative/proposer.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, seededRng } from '../../support/random.ts';
import { TinyModel } from '../../support/tiny-model.ts';

const maxSequences = 4;

/** @param drift how far the draft model is from the target; 0 for the same */
function speculatorOf(
  proposers: readonly ProposerName[],
  numTokens: number,
  drift: number,
  model = new TinyModel({ drift }),
) {
  return new Speculator({
    policy: new FixedPolicy(proposers, numTokens),
    drafter: new Drafter(model, maxSequences),
    outputs: null,
    proposers: new Set(proposers),
    maxDraftTokens: 8,
    now: () => 0,
  });
}

/** Prompts that repeat themselves, so that lookups find something, and others. */
function jobsOf(seed: number): Job[] {
  const rng = seededRng(seed);
  return Array.from({ length: 9 }, (_, i) => {
    const period = integerFrom(rng, 2, 12);
    const length = integerFrom(rng, 1, 90);
    return engineJob({
      prompts: [Array.from({ length }, (_, j) => 3 + ((j % period) % 20))],
      n: i % 4 === 0 ? 2 : 1,
      maxTokens: integerFrom(rng, 1, 50),
      speculation: i === 5 ? 'off' : 'auto',
      sampling: {
        ...PLAIN_PARAMS,
        temperature: [0, 0.5, 1][i % 3]!,
        seed: i,
        frequencyPenalty: i % 2,
      },
      topLogprobs: i === 3 ? 2 : null,
      echo: i === 3,
      stop: i === 4 ? ['ab', 'cd '] : [],
    });
  });
}

async function outcomesOf(driver: EngineDriver, jobs: readonly Job[]) {
  for (const job of jobs) {
    driver.start(job);
    await driver.step();
  }
  await driver.finish();
  return jobs.map((job) => foldChoices(driver.eventsOf(job), job.n));
}

function usageOf(driver: EngineDriver, job: Job) {
  const last = driver.eventsOf(job).at(-1);
  if (last?.type !== 'end') throw new Error(`the last event is ${last?.type}`);
  return last.usage;
}

describe('Engine with drafts', () => {
  it.each([
    { proposers: ['draft'], numTokens: 1, drift: 0 },
    { proposers: ['draft'], numTokens: 5, drift: 0.02 },
    { proposers: ['draft'], numTokens: 8, drift: 5 },
    { proposers: ['ngram', 'draft'], numTokens: 3, drift: 0.05 },
    { proposers: ['ngram'], numTokens: 8, drift: 0 },
    { proposers: ['staged'], numTokens: 5, drift: 0.02 },
  ] as const)('gives the texts of plain decoding: %o', async ({ proposers, numTokens, drift }) => {
    for (const maxBatchedTokens of [100, 12]) {
      const jobs = jobsOf(numTokens);
      const speculator = speculatorOf(proposers, numTokens, drift);
      const driver = new EngineDriver({ speculator, maxSequences, maxBatchedTokens });
      const outcomes = await outcomesOf(driver, jobs);

      for (const [i, job] of jobs.entries()) {
        expect(outcomes[i]).toEqual(foldChoices(await generate(job), job.n));
      }
    }
  });

  it('accepts nearly all of a draft by the same model, and asks it for fewer steps', async () => {
    const job = engineJob({ maxTokens: 60, speculation: 'auto', ignoreEos: true });
    const speculator = speculatorOf(['draft'], 5, 0);
    const driver = new EngineDriver({ speculator, maxBatchedTokens: 100 });
    await outcomesOf(driver, [job]);

    const { acceptedPredictionTokens, rejectedPredictionTokens } = usageOf(driver, job);
    expect(rejectedPredictionTokens).toBe(0);
    expect(acceptedPredictionTokens).toBeGreaterThan(40);
    expect(driver.model.calls.length).toBeLessThan(20);
  });

  it('goes on without a draft model that gives NaN, and with it once it does not', async () => {
    const model = new TinyModel();
    const speculator = speculatorOf(['staged'], 5, 0, model);
    const driver = new EngineDriver({ speculator, maxSequences, maxBatchedTokens: 100 });
    const jobs = jobsOf(5);
    for (const job of jobs) driver.start(job);
    for (let step = 0; !driver.engine.isIdle; step += 1) {
      model.isFaulty = step < 5 || step % 3 === 0;
      await driver.step();
    }

    for (const job of jobs) {
      const outcome = foldChoices(driver.eventsOf(job), job.n);
      expect(outcome).toEqual(foldChoices(await generate(job), job.n));
    }
    const accepted = jobs.map((job) => usageOf(driver, job).acceptedPredictionTokens);
    expect(Math.max(...accepted)).toBeGreaterThan(5);
  });

  it('drafts nothing for a request that does not want it', async () => {
    const job = engineJob({ maxTokens: 20, speculation: 'off' });
    const driver = new EngineDriver({ speculator: speculatorOf(['draft'], 5, 0) });
    await outcomesOf(driver, [job]);
    expect(usageOf(driver, job)).toMatchObject({
      acceptedPredictionTokens: 0,
      rejectedPredictionTokens: 0,
    });
  });
});
