import { describe, expect, it } from 'vitest';
import { type TenantId, toTenantId } from '../../../shared/ids.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import { bytesPerToken } from '../../../worker/cache/layout.ts';
import {
  type DriverOptions,
  EngineDriver,
  engineJob,
  foldChoices,
  generate,
} from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';
import { VOCAB_SIZE } from '../../support/tiny-tokens.ts';

const sampled = { ...PLAIN_PARAMS, temperature: 0.8, seed: 7 };

function promptOf(seed: number, length: number): number[] {
  const rng = seededRng(seed);
  return Array.from({ length }, () => integerFrom(rng, 3, VOCAB_SIZE));
}

const prompt = promptOf(1, 300);

/** A choice or request of its own for each of so many, beside each other. */
function driverOf(jobs: readonly Job[], options: DriverOptions = {}): EngineDriver {
  const driver = new EngineDriver({ maxBatchedTokens: 256, prefixCacheBytes: 1e7, ...options });
  for (const job of jobs) driver.start(job);
  return driver;
}

function jobsOf(prompts: readonly number[][], fields: Partial<Job> = {}): Job[] {
  return prompts.map((each, i) =>
    engineJob({ prompts: [each], maxTokens: 5, sampling: { ...sampled, seed: i }, ...fields }),
  );
}

/** Tokens that the model was given, without those that pad a call. */
function tokensRead(driver: EngineDriver): number {
  const isRead = (mask: Float32Array) => mask.some((value) => value === 0);
  return driver.model.calls.reduce((sum, { mask, tokenIds }) => {
    const numColumns = mask.length / tokenIds.length;
    const rows = [...tokenIds.keys()].map((i) =>
      mask.subarray(i * numColumns, (i + 1) * numColumns),
    );
    return sum + rows.filter(isRead).length;
  }, 0);
}

function cachedTokens(driver: EngineDriver, job: Job): number {
  const last = driver.eventsOf(job).at(-1);
  return last?.type === 'end' ? last.usage.cachedTokens : -1;
}

async function expectAsAlone(driver: EngineDriver, jobs: readonly Job[]): Promise<void> {
  for (const job of jobs) {
    const count = job.prompts.length * job.n;
    expect(foldChoices(driver.eventsOf(job), count)).toEqual(
      foldChoices(await generate(job), count),
    );
  }
}

describe('sequences that begin alike, at the same time', () => {
  it('read each block once', async () => {
    const jobs = jobsOf(Array<number[]>(8).fill(prompt), { maxTokens: 1 });
    const driver = driverOf(jobs);
    await driver.finish();

    // The first reads 300, each of the others the 44 behind the last whole block.
    expect(tokensRead(driver)).toBe(300 + 7 * 44);
    const cached = jobs.map((job) => cachedTokens(driver, job));
    expect(cached).toEqual([0, ...Array<number>(7).fill(256)]);
    // Each asked once for all but its last token, however long it waited for the first to read.
    expect(driver.engine.usage).toMatchObject({
      numPrefixTokensAsked: 8 * 299,
      numPrefixTokensCopied: 7 * 256,
      prefixCacheBytes: 4 * 64 * bytesPerToken(driver.model.shape),
    });
    await expectAsAlone(driver, jobs);
  });

  it('are choices of one request as well, which count the prompt once', async () => {
    const job = engineJob({ prompts: [prompt], n: 8, maxTokens: 1, sampling: sampled });
    const driver = driverOf([job]);
    await driver.finish();

    expect(tokensRead(driver)).toBe(300 + 7 * 44);
    expect(cachedTokens(driver, job)).toBe(0);
    await expectAsAlone(driver, [job]);
  });

  it('part where their prompts do, also within a block', async () => {
    const prompts = [0, 100, 150, 200].map((end) => [
      ...prompt.slice(0, end),
      ...promptOf(end, 90),
    ]);
    const jobs = jobsOf([prompt, ...prompts], { maxTokens: 1 });
    const driver = driverOf(jobs);
    await driver.finish();

    const cached = jobs.map((job) => cachedTokens(driver, job));
    expect(cached).toEqual([0, 0, 64, 128, 192]);
    await expectAsAlone(driver, jobs);
    const [again] = jobsOf([[...prompt.slice(0, 150), 5, 6]]);
    driver.start(again!);
    await driver.finish();
    expect(cachedTokens(driver, again!)).toBe(150);
  });

  it('do not wait for those of other tenants, nor without a cache of prefixes', async () => {
    const tenants = ['a', 'b', 'c'].map(toTenantId);
    const jobs = tenants.map((tenant) => jobsOf([prompt], { tenant, maxTokens: 1 })[0]!);
    const apart = driverOf(jobs);
    await apart.finish();
    expect(apart.model.calls).toHaveLength(5);

    const without = driverOf(jobsOf([prompt, prompt, prompt], { maxTokens: 1 }), {
      prefixCacheBytes: 0,
    });
    await without.finish();
    expect(without.model.calls).toHaveLength(5);
    expect(tokensRead(without)).toBe(900);
  });

  it('wait for nobody whose blocks are not kept', async () => {
    const oneBlock = 2 * 2 * 8 * 4 * 64; // two layers of keys and values, eight floats wide
    const jobs = jobsOf([prompt, prompt], { maxTokens: 50, ignoreEos: true });
    const driver = driverOf(jobs, { prefixCacheBytes: oneBlock });
    let numSteps = 0;
    for (; !driver.engine.isIdle; numSteps += 1) await driver.step();

    expect(jobs.map((job) => cachedTokens(driver, job))).toEqual([0, 64]);
    // The second waits for the block that is not kept, and no longer.
    expect(numSteps).toBe(5 + 49 + 1);
    await expectAsAlone(driver, jobs);
  });

  it('go on when the one that reads for them leaves', async () => {
    const jobs = jobsOf([prompt, prompt, prompt]);
    const driver = driverOf(jobs, { maxBatchedTokens: 40 });
    for (let i = 0; i < 3; i += 1) await driver.step();
    driver.engine.cancel(jobs[0]!.id, 'cancelled');
    await driver.finish();

    expect(jobs.slice(1).map((job) => cachedTokens(driver, job))).toEqual([64, 256]);
    await expectAsAlone(driver, jobs.slice(1));
  });

  it('read all themselves whose logits are all wanted', async () => {
    const jobs = [
      ...jobsOf([prompt]),
      ...jobsOf([prompt], { echo: true, topLogprobs: 1 }),
      ...jobsOf([prompt]),
    ];
    const driver = driverOf(jobs);
    await driver.finish();

    expect(jobs.map((job) => cachedTokens(driver, job))).toEqual([0, 0, 256]);
    await expectAsAlone(driver, jobs);
  });
});

/** Prompts that grow out of each other, as conversations do. */
function growPrompts(rng: Rng, count: number): number[][] {
  const prompts: number[][] = [promptOf(9, 70)];
  while (prompts.length < count) {
    const stem = pickFrom(rng, prompts);
    const end = integerFrom(rng, 1, stem.length + 1);
    prompts.push([...stem.slice(0, end), ...promptOf(prompts.length, integerFrom(rng, 1, 90))]);
  }
  return prompts;
}

it.each([1, 2, 3, 4])(
  'gives the same however prefixes are shared, cut and forgotten (%d)',
  async (seed) => {
    const rng = seededRng(seed);
    const tenants: TenantId[] = [toTenantId('a'), toTenantId('b')];
    const jobs = growPrompts(rng, 24).map((each, i) =>
      engineJob({
        prompts: [each],
        n: pickFrom(rng, [1, 1, 3]),
        tenant: pickFrom(rng, tenants),
        class: pickFrom(rng, ['interactive', 'batch']),
        maxTokens: integerFrom(rng, 1, 80),
        ignoreEos: true,
        contextPolicy: pickFrom(rng, [
          { type: 'stop' },
          { type: 'sinks', sinkTokens: 4, windowTokens: 100 },
        ]),
        sampling: { ...sampled, seed: i },
      }),
    );
    const driver = new EngineDriver({
      maxSequences: 4,
      maxBatchedTokens: pickFrom(rng, [40, 100, 256]),
      prefixCacheBytes: pickFrom(rng, [2e4, 2e5, 1e7]),
    });
    const cancelled = new Set<Job>();
    for (const job of jobs) {
      driver.start(job);
      for (let i = integerFrom(rng, 0, 6); i > 0; i -= 1) await driver.step();
      const other = pickFrom(rng, jobs);
      if (rng() > 0.2 || !driver.eventsById.has(other.id)) continue;
      driver.engine.cancel(other.id, 'cancelled');
      cancelled.add(other);
    }
    await driver.finish();

    const others = jobs.filter((job) => !cancelled.has(job));
    await expectAsAlone(driver, others);
    expect(Math.max(...others.map((job) => cachedTokens(driver, job)))).toBeGreaterThan(0);
  },
);
