import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId } from '../../shared/ids.ts';
import {
  type GenerationEvent,
  isLast,
  NOTHING_PUBLISHED,
} from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { loadConfig } from '../../worker/config.ts';
import { WEIGHT_FORMATS, type WeightFormat } from '../../worker/model/builder.ts';
import { EngineClient } from '../../worker/thread/client.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { foldChoices } from '../support/engine-driver.ts';
import { type ModelPair, openStoriesPair } from '../support/model-pair.ts';
import { jobOfCase, predictionOf, STYLES } from '../support/speculation-cases.ts';
import { modelsDir } from '../support/worker-process.ts';

/** Requests by the rows that they are read in. */
const NUM_JOBS: Readonly<Record<number, number>> = { 1: 8, 4: 16, 16: 32 };

const cacheDir = temporaryDirectory();

/** Drafted tokens over all tests: how many there are is the clock's to say. */
let numAccepted = 0;
let numRejected = 0;

/** The engine as a worker runs it by default, with the draft model that the service ships with. */
function openEngine(weightFormat: WeightFormat): Promise<EngineClient> {
  const config = loadConfig({
    REDIS_URL: 'redis://unused',
    MODEL_DIR: join(modelsDir, 'stories-target'),
    DRAFT_MODEL_DIR: join(modelsDir, 'stories-draft'),
    CACHE_DIR: cacheDir,
    WEIGHT_FORMAT: weightFormat,
  });
  return EngineClient.open({ ...config, ...config.model, weightFormat });
}

/** Runs jobs, so many at once. @returns what was said of each */
async function run(engine: EngineClient, jobs: readonly Job[], numRows: number) {
  const eventsByJob = new Map<Job, GenerationEvent[]>(jobs.map((job) => [job, []]));
  const waiting = jobs.values();
  async function runOthers(): Promise<void> {
    for (const job of waiting) {
      await new Promise<void>((resolve) => {
        engine.start(job, { choices: [NOTHING_PUBLISHED] }, (events) => {
          eventsByJob.get(job)!.push(...events);
          if (events.some(isLast)) resolve();
        });
      });
    }
  }
  await Promise.all(Array.from({ length: numRows }, runOthers));
  return jobs.map((job) => eventsByJob.get(job)!);
}

function outcomeOf(events: readonly GenerationEvent[]) {
  const end = events.at(-1);
  if (end?.type !== 'end') throw new Error(`the last event is ${end?.type}`);
  return { choice: foldChoices(events, 1)[0]!, end };
}

describe.each(WEIGHT_FORMATS)('a worker that decides by its own clock, in %s', (weightFormat) => {
  let pair: ModelPair;
  let engine: EngineClient;
  beforeAll(async () => {
    pair = await openStoriesPair(cacheDir);
    engine = await openEngine(weightFormat);
  });
  afterAll(async () => {
    await engine[Symbol.asyncDispose]();
    await pair[Symbol.asyncDispose]();
  });

  it.each([1, 4, 16])('says in %d rows with speculation what it says without', async (numRows) => {
    const jobs = Array.from({ length: NUM_JOBS[numRows]! }, (_, i) =>
      jobOfCase({ prompt: 3 * i + numRows, style: (5 * i + numRows) % STYLES.length }, pair),
    );
    const plain = jobs.map((job) => ({ ...job, speculation: 'off' as const }));
    const expected = (await run(engine, plain, numRows)).map(outcomeOf);
    // Some clients say what they expect, and are drafted for even where speculation rests.
    const drafted = jobs.map((job, i) => ({
      ...job,
      id: createRequestId(),
      prediction: i % 2 === 0 ? predictionOf(expected[i]!.choice.tokenIds) : null,
    }));
    const actual = (await run(engine, drafted, numRows)).map(outcomeOf);

    expect(actual.map(({ choice }) => choice)).toEqual(expected.map(({ choice }) => choice));
    for (const { end } of actual) {
      numAccepted += end.usage.acceptedPredictionTokens;
      numRejected += end.usage.rejectedPredictionTokens;
    }
  });
});

it('has drafted now and then, rightly and wrongly', () => {
  expect(numAccepted).toBeGreaterThan(50);
  expect(numRejected).toBeGreaterThan(20);
});
