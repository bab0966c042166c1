import { describe, expect, it } from 'vitest';
import type { Job } from '../../../shared/protocol/job.ts';
import type { ModelInput } from '../../../worker/model/runner.ts';
import { EngineDriver, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { createErraticSpeculator, createTinyPair } from '../../support/model-pair.ts';

/** Of which no other row reads more than one at a time. */
const MARK = 17;
const prompts = [Array.from({ length: 70 }, () => MARK)];
const held = (fields: Partial<Job> = {}) => engineJob({ prompts, maxTokens: 20, ...fields });

function startHeld(driver: EngineDriver, job: Job): void {
  driver.start(job, undefined, true);
}

function numDue(driver: EngineDriver, job: Job): number {
  return driver.eventsOf(job).filter(({ type }) => type === 'due').length;
}

/** Whether the model was ever given a held prompt. */
function isRead({ model }: EngineDriver): boolean {
  const numMarks = ({ tokenIds }: ModelInput) => tokenIds.filter((id) => id === MARK).length;
  return model.calls.some((call) => numMarks(call) > 3);
}

const choicesOf = (driver: EngineDriver, job: Job) => foldChoices(driver.eventsOf(job), job.n);

describe('a held request', () => {
  it('says once that it is due, and is not read before it is told to proceed', async () => {
    const driver = new EngineDriver();
    const job = held();
    const neighbour = engineJob({ maxTokens: 30, ignoreEos: true });
    startHeld(driver, job);
    driver.start(neighbour);
    await driver.finish();

    expect(numDue(driver, job)).toBe(1);
    expect(isRead(driver)).toBe(false);
    expect(driver.eventsOf(neighbour)).toEqual(await generate(neighbour));
    driver.engine.proceed(job.id);
    await driver.finish();
    expect(choicesOf(driver, job)).toEqual(foldChoices(await generate(job), 1));
    expect(numDue(driver, job)).toBe(1);
  });

  it('is not due before it has a row', async () => {
    const driver = new EngineDriver({ maxSequences: 1 });
    const job = held();
    const first = engineJob({ maxTokens: 5, ignoreEos: true });
    driver.start(first);
    startHeld(driver, job);
    for (let step = 0; step < 5; step += 1) {
      await driver.step();
      expect(numDue(driver, job)).toBe(0);
    }
    expect(driver.eventsOf(first).at(-1)?.type).toBe('end');
    await driver.step();
    expect(numDue(driver, job)).toBe(1);
  });

  it('is not due while its row is left out of the steps', async () => {
    const driver = new EngineDriver();
    const [older, job] = [engineJob({ class: 'batch', maxTokens: 40 }), held({ class: 'batch' })];
    const urgent = engineJob({ maxTokens: 200, ignoreEos: true });
    driver.start(urgent);
    await driver.step();
    driver.start(older);
    startHeld(driver, job);
    for (let step = 0; step < 20; step += 1) await driver.step();
    expect(driver.engine.usage.numRunning).toBe(3);
    expect(numDue(driver, job)).toBe(0);
    await driver.finish();
    expect(numDue(driver, job)).toBe(1);
    expect(isRead(driver)).toBe(false);
  });

  it('gives the same with choices, whichever of them is due first', async () => {
    const job = held({ n: 3, sampling: { ...held().sampling, temperature: 1, seed: 4 } });
    const driver = new EngineDriver({ maxSequences: 2 });
    startHeld(driver, job);
    await driver.finish();
    expect(isRead(driver)).toBe(false);
    driver.engine.proceed(job.id);
    await driver.finish();
    expect(choicesOf(driver, job)).toEqual(foldChoices(await generate(job), 3));
    expect(numDue(driver, job)).toBe(1);
  });

  it('has nothing drafted for it, and reads no draft model', async () => {
    const pair = createTinyPair();
    const driver = new EngineDriver({
      served: pair.target,
      maxSequences: 2,
      prefixCacheBytes: 1e7,
      speculator: createErraticSpeculator(pair.draft, { maxSequences: 2, outputs: null }),
    });
    const fields = { maxTokens: 40, speculation: 'auto', ignoreEos: true } as const;
    const [job, again] = [engineJob(fields), engineJob(fields)];
    driver.start(job);
    await driver.finish();
    // All but the last token of its prompt can be copied: it would decode at once.
    startHeld(driver, again);
    await driver.finish();
    expect(draftedBy(driver, job)).toBeGreaterThan(0);
    expect(driver.eventsOf(again)).toEqual([{ type: 'due' }]);
    driver.engine.proceed(again.id);
    await driver.finish();
    expect(choicesOf(driver, again)).toEqual(choicesOf(driver, job));
  });

  it('lets the engine rest until somebody tells it something', async () => {
    const driver = new EngineDriver();
    const job = held();
    expect(driver.engine.isIdle).toBe(true);
    startHeld(driver, job);
    expect(driver.engine.isIdle).toBe(false);
    await driver.step();
    expect(driver.engine.isIdle).toBe(true);
    driver.engine.proceed(job.id);
    expect(driver.engine.isIdle).toBe(false);
  });

  it('ends when it is cancelled, and is forgotten when it is released', async () => {
    const driver = new EngineDriver();
    const [cancelled, released] = [held(), held()];
    for (const job of [cancelled, released]) startHeld(driver, job);
    await driver.step();
    driver.engine.cancel(cancelled.id, 'cancelled');
    driver.release(released.id);
    await driver.finish();
    expect(choicesOf(driver, cancelled)[0]?.finishReason).toBe('cancelled');
    expect(driver.eventsOf(cancelled).at(-1)?.type).toBe('end');
    expect(driver.engine.usage.numRunning).toBe(0);
    expect(isRead(driver)).toBe(false);
    driver.engine.proceed(released.id);
    expect(driver.engine.usage.numRunning).toBe(0);
  });
});

function draftedBy(driver: EngineDriver, job: Job): number {
  const last = driver.eventsOf(job).at(-1);
  const stats = last?.type === 'end' ? last.speculation : [];
  return stats.reduce((sum, { numDraftTokens }) => sum + numDraftTokens, 0);
}
