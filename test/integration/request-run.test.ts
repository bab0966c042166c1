import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { encodeJob, type Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { LastTries } from '../../worker/queue/last-tries.ts';
import { RequestRun, type RunContext } from '../../worker/queue/request-run.ts';
import { createLog, watchedLog } from '../../worker/telemetry/log.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator } from '../support/scripted-generator.ts';
import { runContextOf } from '../support/workers.ts';

const keys = new Keys();
let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

/** A request that would go on for long, and a worker that is about to claim it. */
async function begin(overrides: Partial<Job> = {}) {
  const generator = new ScriptedGenerator();
  const lastTries = new LastTries();
  let onEvent: (event: string) => void = () => undefined;
  const log = watchedLog(createLog('silent'), (event) => onEvent(event));
  const context: RunContext = runContextOf({ command: redis.client, isCluster: false }, generator, {
    log,
    lastTries,
  });
  const job = jobOf({ maxTokens: 100_000, ...overrides });
  await context.scripts.create(job.id, encodeJob(job));
  const run = new RequestRun(job.id, context);
  /** Does something at the moment at which the worker logs an event. */
  const at = (event: string, act: () => void) => {
    onEvent = (each) => {
      if (each === event) act();
    };
  };
  return { job, run, generator, scripts: context.scripts, lastTries, at };
}

function statusOf({ id }: Job): Promise<string | null> {
  return redis.client.hget(keys.request(id).state, 'status');
}

/** A request that two workers died of waits for its turn, which is another's. */
async function beginSuspect() {
  const { signal } = new AbortController();
  const begun = await begin();
  const endOther = await begun.lastTries.begin(signal);
  for (const worker of ['a', 'b']) await begun.scripts.claim(begun.job.id, worker, 2);
  const waits = new Promise<void>((resolve) => begun.at('request_suspect', resolve));
  const over = begun.run.run();
  await waits;
  return { ...begun, over, endOther };
}

describe('a cancel', () => {
  it('while the request is being claimed ends it', async () => {
    const { job, run, generator } = await begin();
    const over = run.run();
    run.cancel('cancelled');
    await over;

    expect(await statusOf(job)).toBe('cancelled');
    expect(generator.numRunning).toBe(0);
  });

  it('while what others have published is being read ends it, for the first reason given', async () => {
    const { job, run, at } = await begin();
    at('request_claimed', () => {
      run.cancel('deadline');
      run.cancel('cancelled');
    });
    await run.run();

    expect(await statusOf(job)).toBe('expired');
  });

  it('of a request that waits for its last try does not wait for it', async () => {
    const { job, run, over } = await beginSuspect();
    run.cancel('cancelled');
    await over;

    expect(await statusOf(job)).toBe('cancelled');
  });

  it('at its end changes nothing', async () => {
    const { job, run } = await begin({ maxTokens: 2 });
    await run.run();
    run.cancel('cancelled');

    expect(await statusOf(job)).toBe('succeeded');
  });
});

describe('a release', () => {
  it('of a request that waits for its last try does not wait for it, and counts no claim', async () => {
    const { job, run, over, generator } = await beginSuspect();
    await run.release();

    expect(await over).toBe('released');
    expect(generator.begun).toEqual([]);
    expect(await redis.client.llen(keys.request(job.id).claims)).toBe(2);
  });
});

describe('a request that came back to the worker', () => {
  it('is begun by nobody who was still reading what others have published', async () => {
    const { run, generator, at } = await begin();
    let dropped: Promise<void> | null = null;
    at('request_claimed', () => {
      dropped = run.drop();
    });
    await run.run();
    await dropped;

    expect(generator.starts).toEqual([]);
  });

  it('is read by nobody who was still waiting for its last try', async () => {
    const { run, over, generator, endOther } = await beginSuspect();
    await run.drop();
    endOther();

    expect(await over).toBe('over');
    expect(generator.begun).toEqual([]);
  });
});

describe('a request that waits for its last try', () => {
  it('has it when nobody before it has one any more, and is held to account from then on', async () => {
    const { job, run, over, generator, endOther } = await beginSuspect();
    expect(generator.begun).toEqual([]);
    expect(await redis.client.llen(keys.request(job.id).claims)).toBe(2);
    endOther();
    await vi.waitFor(() => expect(generator.begun).toEqual([job.id]));
    expect(await redis.client.llen(keys.request(job.id).claims)).toBe(3);
    run.cancel('cancelled');
    expect(await over).toBe('finished');
  });

  it('is not read where another worker has claimed it meanwhile, and lets the next one be tried', async () => {
    const { job, over, generator, scripts, lastTries, endOther } = await beginSuspect();
    await scripts.claim(job.id, 'another', 2, 2);
    endOther();

    expect(await over).toBe('over');
    expect(generator.begun).toEqual([]);
    expect(generator.numRunning).toBe(0);
    await lastTries.begin(new AbortController().signal);
  });

  it('is claimed anew where Redis has lost its claim', async () => {
    const { job, run, over, generator, endOther } = await beginSuspect();
    await redis.client.hset(keys.request(job.id).state, 'epoch', 2);
    endOther();

    await vi.waitFor(() => expect(generator.begun).toEqual([job.id]));
    expect(generator.starts).toHaveLength(2);
    run.cancel('cancelled');
    expect(await over).toBe('finished');
  });
});
