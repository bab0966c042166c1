import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, testQueue } from '../support/workers.ts';

const keys = new Keys();
const sinks = { type: 'sinks', sinkTokens: 0, windowTokens: 1 } as const;
let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await redis.client.flushall();
});

/** One that may run for ever; the generator of these tests makes so many tokens of it. */
function endlessJob(overrides: Partial<Job> = {}): Job {
  return jobOf({ contextPolicy: sinks, maxTokens: null, ...overrides });
}

function statusOf(id: RequestId): Promise<string | null> {
  return redis.client.hget(keys.request(id).state, 'status');
}

function numWaiting(): Promise<number> {
  return redis.client.zcard(keys.waitingJobs(testQueue).prioritized);
}

/** Steps until `isDone`, and only as fast as what is said gets to Redis. */
async function stepUntil(generator: ScriptedGenerator, isDone: () => Promise<boolean>) {
  await vi.waitFor(
    async () => {
      generator.step();
      expect(await isDone()).toBe(true);
    },
    { timeout: 10_000, interval: 10 },
  );
}

describe('the queue of batch jobs', () => {
  it('fills its places and leaves those of interactive requests alone', async () => {
    const generator = new ScriptedGenerator('by-hand');
    const batchQueue = { ...testQueue, class: 'batch' } as const;
    await using _interactive = await openTestWorker(redis.url, generator, { maxRunning: 2 });
    await using batch = await openTestWorker(redis.url, generator, {
      maxRunning: 2,
      queue: batchQueue,
    });
    const lines = Array.from({ length: 4 }, () => jobOf({ class: 'batch' }));
    const results = lines.map((job) => generate(transport, job));
    await generator.started(2);
    await vi.waitFor(async () => {
      expect(await redis.client.zcard(keys.waitingJobs(batchQueue).prioritized)).toBe(2);
    });
    expect(batch.consumer.numRunning).toBe(2);
    const urgent = jobOf();
    const result = generate(transport, urgent);
    await generator.started(3);
    expect(generator.starts.at(-1)?.id).toBe(urgent.id);

    await stepUntil(generator, async () => generator.starts.length === 5);
    while (generator.numRunning > 0) generator.step();
    expect((await result).texts).toEqual([scriptedText(urgent)]);
    for (const [i, job] of lines.entries()) {
      expect((await results[i])?.texts).toEqual([scriptedText(job)]);
    }
  });
});

describe('requests without bound', () => {
  it('give their place to one that waits, and lose nothing', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator, {
      maxRunning: 1,
      quantumTokens: 4,
    });
    const endless = endlessJob({
      maxTokens: 9000,
      n: 2,
      contextPolicy: { ...sinks, windowTokens: 20 },
    });
    const endlessResult = generate(transport, endless);
    await generator.started(1);
    const others = [jobOf({ maxTokens: 3 }), jobOf({ maxTokens: 2 })];
    const results = others.map((job) => generate(transport, job));
    await vi.waitFor(async () => expect(await numWaiting()).toBe(2));

    await stepUntil(generator, async () => generator.starts.length === 4);
    while (generator.numRunning > 0) generator.step();
    const order = [endless, ...others, endless].map(({ id }) => id);
    expect(generator.starts.map(({ id }) => id)).toEqual(order);
    for (const { tokenIds, numTrimmed = 0 } of generator.starts.at(-1)?.published ?? []) {
      expect(tokenIds.length + numTrimmed).toBeGreaterThanOrEqual(16 * 20); // sixteen windows
    }
    expect((await endlessResult).texts).toEqual([0, 1].map((i) => scriptedText(endless, i)));
    for (const [i, job] of others.entries()) {
      expect((await results[i])?.texts).toEqual([scriptedText(job)]);
    }
  });

  it('wait no longer behind less urgent ones than until their place is taken', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator, {
      maxRunning: 1,
      quantumTokens: 4,
    });
    const endless = endlessJob({ priority: 1, maxTokens: 100_000 });
    const endlessResult = generate(transport, endless);
    await generator.started(1);
    const slow = jobOf({ priority: 2000 });
    const slowResult = generate(transport, slow);
    await vi.waitFor(async () => expect(await numWaiting()).toBe(1));
    await stepUntil(generator, async () => generator.starts.at(-1)?.id === slow.id);
    await vi.waitFor(async () => {
      const { prioritized } = keys.waitingJobs(testQueue);
      const score = await redis.client.zscore(prioritized, endless.id);
      expect(Math.floor(Number(score) / 2 ** 32)).toBe(1);
    });

    const later = jobOf({ maxTokens: 2 });
    const laterResult = generate(transport, later);
    await vi.waitFor(async () => expect(await numWaiting()).toBe(2));
    await stepUntil(generator, async () => generator.starts.length === 4);
    const order = [endless, slow, endless, later].map(({ id }) => id);
    expect(generator.starts.map(({ id }) => id)).toEqual(order);
    await transport.cancel(endless.id);
    await stepUntil(generator, async () => generator.numRunning + (await numWaiting()) === 0);
    for (const result of [endlessResult, slowResult, laterResult]) {
      expect((await result).last?.type).toBe('done');
    }
  });

  it('keep their place while nobody waits, and what is bounded keeps it in any case', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator, {
      maxRunning: 2,
      quantumTokens: 2,
    });
    const jobs = [jobOf(), endlessJob()];
    const results = jobs.map((job) => generate(transport, job));
    await generator.started(2);
    while (generator.numRunning > 0) generator.step();
    await Promise.all(results);
    expect(generator.starts).toHaveLength(2);

    const bounded = [jobOf(), jobOf(), jobOf()];
    const boundedResults = bounded.map((job) => generate(transport, job));
    await generator.started(4);
    await vi.waitFor(async () => expect(await numWaiting()).toBe(1));
    await stepUntil(generator, async () => generator.starts.length === 5);
    while (generator.numRunning > 0) generator.step();
    await Promise.all(boundedResults);
    expect(generator.starts).toHaveLength(5);
  });

  it('end once, when they are cancelled in the moment in which they are taken again', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using worker = await openTestWorker(redis.url, generator, {
      maxRunning: 1,
      quantumTokens: 4,
    });
    for (let round = 0; round < 20; round += 1) {
      const endless = endlessJob({ maxTokens: 100_000 });
      const endlessResult = generate(transport, endless);
      await stepUntil(generator, async () => generator.starts.at(-1)?.id === endless.id);
      const other = jobOf({ maxTokens: 1 });
      const otherResult = generate(transport, other);
      await stepUntil(generator, async () => generator.starts.at(-1)?.id === other.id);
      await vi.waitFor(async () => expect(await statusOf(endless.id)).toBe('queued'));

      await Promise.all([transport.cancel(endless.id), generator.step()]);
      const stepping = setInterval(() => generator.step(), 2);
      const ended = await Promise.race([endlessResult, worker.over]);
      clearInterval(stepping);
      expect(ended).toMatchObject({ last: { type: 'done' } });
      await otherResult;
    }
  });

  it.each(['cancelled', 'deadline'] as const)(
    'end where they wait, when they are %s',
    async (reason) => {
      const generator = new ScriptedGenerator('by-hand');
      await using _worker = await openTestWorker(redis.url, generator, {
        maxRunning: 1,
        quantumTokens: 4,
      });
      const deadlineMs = reason === 'deadline' ? Date.now() + 3000 : null;
      const endless = endlessJob({ deadlineMs, maxTokens: 100_000 });
      const endlessResult = generate(transport, endless);
      await generator.started(1);
      const other = jobOf();
      const otherResult = generate(transport, other);
      await vi.waitFor(async () => expect(await numWaiting()).toBe(1));
      await stepUntil(generator, async () => generator.starts.at(-1)?.id === other.id);
      await vi.waitFor(async () => expect(await numWaiting()).toBe(1));
      expect(await statusOf(endless.id)).toBe('queued');

      if (reason === 'cancelled') await transport.cancel(endless.id);
      const { texts, last } = await endlessResult;
      const completionTokens = texts[0]!.trim().split(' ').length;
      expect(last).toMatchObject({ type: 'done', usage: { completionTokens } });
      expect(await statusOf(endless.id)).toBe(reason === 'deadline' ? 'expired' : 'cancelled');
      expect(scriptedText(endless).startsWith(texts[0]!)).toBe(true);
      expect(await statusOf(other.id)).toBe('running');
      while (generator.numRunning > 0) generator.step();
      expect((await otherResult).texts).toEqual([scriptedText(other)]);
    },
  );
});
