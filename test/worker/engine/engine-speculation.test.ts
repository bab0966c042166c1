import { describe, expect, it } from 'vitest';
import type { Job } from '../../../shared/protocol/job.ts';
import { Drafter } from '../../../worker/engine/drafter.ts';
import { Speculator } from '../../../worker/engine/speculator.ts';

import type { ComparedDraft } from '../../../worker/speculative/policy.ts';
import { MAX_DRAFT_TOKENS, type ProposerName } from '../../../worker/speculative/proposer.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { FixedPolicy } from '../../support/fixed-policy.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, seededRng } from '../../support/random.ts';
import { TinyModel } from '../../support/tiny-model.ts';

const maxSequences = 4;

function speculatorOf(
  proposer: ProposerName,
  { model = new TinyModel(), policy = new FixedPolicy([proposer], 5) } = {},
) {
  return new Speculator({
    policy,
    drafter: new Drafter(model, maxSequences),
    rest: null,
    outputs: null,
    proposers: new Set([proposer]),
    maxDraftTokens: MAX_DRAFT_TOKENS,
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

function usageOf(driver: EngineDriver, job: Job) {
  const last = driver.eventsOf(job).at(-1);
  if (last?.type !== 'end') throw new Error(`the last event is ${last?.type}`);
  return last.usage;
}

describe('Engine with drafts', () => {
  it('accepts nearly all of a draft by the same model, and asks it for fewer steps', async () => {
    const job = engineJob({ maxTokens: 60, speculation: 'auto', ignoreEos: true });
    const speculator = speculatorOf('draft');
    const driver = new EngineDriver({ speculator, maxBatchedTokens: 100 });
    driver.start(job);
    await driver.finish();

    const { acceptedPredictionTokens, rejectedPredictionTokens } = usageOf(driver, job);
    expect(rejectedPredictionTokens).toBe(0);
    expect(acceptedPredictionTokens).toBeGreaterThan(40);
    expect(driver.model.calls.length).toBeLessThan(20);
  });

  it('goes on without a draft model that gives NaN, and with it once it does not', async () => {
    const model = new TinyModel();
    const speculator = speculatorOf('staged', { model });
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

  it('counts no token as rejected that a sequence did not come to', async () => {
    const job = engineJob({ maxTokens: 60, speculation: 'auto', ignoreEos: true });
    const [plain] = foldChoices(await generate(job), 1);
    const drafts: ComparedDraft[] = [];
    const watch = {
      observeVerified: (_: object, draft: ComparedDraft) => void drafts.push(draft),
    };
    const policy = Object.assign(new FixedPolicy(['draft'], 5), watch);
    const stop = [plain!.text.slice(30, 33)];
    await generate({ ...job, stop }, { speculator: speculatorOf('draft', { policy }) });

    expect(drafts.filter(({ numCompared, numAccepted }) => numCompared > numAccepted)).toEqual([]);
    expect(drafts.at(-1)!.numCompared).toBeLessThan(drafts.at(-1)!.numDrafted);
  });

  it('drafts nothing for a request that does not want it', async () => {
    const job = engineJob({ maxTokens: 20, speculation: 'off' });
    const driver = new EngineDriver({ speculator: speculatorOf('draft') });
    driver.start(job);
    await driver.finish();
    expect(usageOf(driver, job)).toMatchObject({
      acceptedPredictionTokens: 0,
      rejectedPredictionTokens: 0,
    });
  });
});
