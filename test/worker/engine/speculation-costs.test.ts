import { describe, expect, it } from 'vitest';
import type { TokenId } from '../../../shared/ids.ts';
import { createRequestId } from '../../../shared/ids.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import type { ModelInput } from '../../../worker/model/runner.ts';
import { Controller } from '../../../worker/speculative/controller.ts';
import type { CallCost } from '../../../worker/speculative/policy.ts';
import { PROPOSERS } from '../../../worker/speculative/proposer.ts';
import { Rest } from '../../../worker/speculative/rest.ts';
import { openClockedEngine } from '../../support/clocked-engine.ts';
import { type EngineDriver, engineJob } from '../../support/engine-driver.ts';
import { FixedPolicy } from '../../support/fixed-policy.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { draftedTokens } from '../../support/speculation-cases.ts';
import { TinyModel } from '../../support/tiny-model.ts';

/** A call reads all weights, and then tokens and columns, as a large model does. */
function targetMs({ numRows, numNewTokens, frozenCapacity }: ModelInput): number {
  return 20 + 0.2 * numRows * numNewTokens + (numRows * frozenCapacity) / 200;
}

const draftMs = () => 1;

function jobOf(numPromptTokens: number, fields: Partial<Job> = {}): Job {
  const prompt = Array.from({ length: numPromptTokens }, (_, i): TokenId => 3 + ((i * 7) % 13));
  const rest = { maxTokens: 50, ignoreEos: true, speculation: 'auto' as const, ...fields };
  return engineJob({ prompts: [prompt], ...rest });
}

/** Runs jobs to their ends. @returns drafted tokens that were accepted, of each */
async function acceptedOf(driver: EngineDriver, jobs: readonly Job[]): Promise<number[]> {
  for (const job of jobs) driver.start(job);
  await driver.finish();
  return jobs.map((job) => draftedTokens(driver, job).accepted);
}

describe('speculation by what calls cost', () => {
  it('drafts for rows of different capacities, which are read in calls of their own', async () => {
    const model = new TinyModel();
    const driver = openClockedEngine({
      model,
      targetMs,
      draftMs,
      policy: new Controller(),
      rest: new Rest(),
      proposers: new Set(['draft']),
    });
    const others = Array.from({ length: 8 }, () => jobOf(5, { maxTokens: 58 }));
    const jobs = [jobOf(700, { maxTokens: 40 }), ...others];
    const accepted = await acceptedOf(driver, jobs);

    const capacities = model.calls.slice(-20).map(({ frozenCapacity }) => frozenCapacity);
    expect(new Set(capacities)).toEqual(new Set([64, 1024]));
    expect(Math.min(...accepted)).toBeGreaterThan(10);
  });

  it('drafts with others beside lookahead', async () => {
    const driver = openClockedEngine({
      targetMs,
      draftMs,
      policy: new Controller(),
      rest: new Rest(),
      proposers: new Set(PROPOSERS),
    });
    const [accepted] = await acceptedOf(driver, [jobOf(5, { maxTokens: 200 })]);
    expect(accepted).toBeGreaterThan(100);
  });

  it('rests where side tokens cost more than they bring', async () => {
    const calls: ModelInput[] = [];
    const driver = openClockedEngine({
      targetMs(input) {
        calls.push(input);
        return 20 + input.numNewTokens;
      },
      policy: new Controller(),
      rest: new Rest(),
      proposers: new Set(['lookahead']),
    });
    const sampling = { ...PLAIN_PARAMS, temperature: 1.3 };
    const job = jobOf(5, { maxTokens: 900, sampling });
    for (let i = 0; i < 2; i += 1) await acceptedOf(driver, [{ ...job, id: createRequestId() }]);

    const numPlain = calls.filter(({ numNewTokens }) => numNewTokens === 1).length;
    expect(numPlain).toBeGreaterThan(0.9 * calls.length);
    expect(numPlain).toBeLessThan(calls.length - 40); // it looks now and then
  });

  it('reads no side tokens, and no drafts, in steps that are timed', async () => {
    const model = new TinyModel();
    let numAsked = 0;
    const isTiming = () => {
      numAsked += 1;
      return numAsked % 3 === 0;
    };
    const driver = openClockedEngine({
      model,
      targetMs,
      policy: new FixedPolicy(['prediction'], 3),
      rest: Object.assign(new Rest(), { isTiming }),
      proposers: new Set(['prediction', 'lookahead']),
    });
    await acceptedOf(driver, [jobOf(5, { maxTokens: 30, prediction: [9, 9, 9, 9] })]);

    const isPlain = model.calls.slice(1, 19).map(({ numNewTokens }) => numNewTokens === 1);
    expect(isPlain).toEqual(isPlain.map((_, i) => i % 3 === 2));
  });

  it('tells the policy of calls in which all rows decode, and of no others', async () => {
    const calls: CallCost[] = [];
    const observeCall = (call: CallCost) => void calls.push(call);
    const driver = openClockedEngine({
      targetMs,
      policy: Object.assign(new FixedPolicy(['ngram'], 3), { observeCall }),
      rest: null,
      proposers: new Set(['ngram']),
    });
    driver.start(jobOf(3));
    await driver.step();
    driver.start(jobOf(5));
    await driver.step(); // one decodes, in the same call as the other reads its prompt
    expect(calls).toEqual([]);

    await driver.step();
    expect(calls).toMatchObject([{ numRows: 2, numNewTokens: 1, frozenCapacity: 64 }]);
  });
});
