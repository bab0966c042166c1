import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll, stepUntil, testQueue } from '../support/workers.ts';

const keys = new Keys();
const never = new AbortController().signal;
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

function numLogged(id: RequestId): Promise<number> {
  return redis.client.xlen(keys.request(id).log);
}

async function waiting(count: number): Promise<void> {
  const { prioritized } = keys.waitingJobs(testQueue);
  await vi.waitFor(async () => expect(await redis.client.zcard(prioritized)).toBe(count));
}

/** What the stalled-job check finds of a worker that stopped renewing. */
async function loseLock(id: RequestId): Promise<void> {
  const { prefix, name } = keys.queue({ model: 'scripted', fingerprint: 'fp' });
  await redis.client.del(`${prefix}:${name}:${id}:lock`);
}

function expectContinuous(ids: readonly string[]): void {
  expect(ids.map((id) => Number(id.split('-')[1]))).toEqual(ids.map((_, seq) => seq));
}

describe('take-over', () => {
  it('goes on after the last published token when a worker is killed', async () => {
    const dying = new ScriptedGenerator('by-hand');
    const killed = await openTestWorker(redis.url, dying, { context: { workerId: 'killed' } });
    const job = jobOf({ n: 2 });
    const result = generate(transport, job);
    await dying.started(1);
    await stepUntil(redis.client, dying, { id: job.id, count: 3 });
    killed.kill();
    const heir = new ScriptedGenerator();
    await using _worker = await openTestWorker(redis.url, heir);

    const { texts, ids, last } = await result;
    expect(texts).toEqual([scriptedText(job, 0), scriptedText(job, 1)]);
    expect(heir.starts[0]?.published[0]?.tokenIds.length).toBeGreaterThan(0);
    expect(last).toMatchObject({ type: 'done', usage: { completionTokens: 32 } });
    expectContinuous(ids);
  });

  it('fences a worker that wakes after its lock ran out, which then drops the request', async () => {
    const sleeper = new ScriptedGenerator('by-hand');
    await using _sleeping = await openTestWorker(redis.url, sleeper, { maxRunning: 1 });
    const job = jobOf();
    const result = generate(transport, job);
    await sleeper.started(1);
    const heir = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, heir);
    await loseLock(job.id);
    await heir.started(1);

    sleeper.step();
    await vi.waitFor(() => expect(sleeper.numRunning).toBe(0));
    expect(await numLogged(job.id)).toBe(0);
    while (heir.numRunning > 0) heir.step();

    const { texts, ids } = await result;
    expect(texts).toEqual([scriptedText(job)]);
    expect(ids.every((id) => id.startsWith('2-'))).toBe(true);
  });

  it('takes its own request back when only its lock was lost', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator);
    const job = jobOf();
    const result = generate(transport, job);
    await generator.started(1);
    await stepUntil(redis.client, generator, { id: job.id, count: 1 });
    await loseLock(job.id);
    await generator.started(2);
    while (generator.numRunning > 0) generator.step();

    const { texts, ids } = await result;
    expect(texts).toEqual([scriptedText(job)]);
    expectContinuous(ids);
  });

  it('finishes at once what was already finished', async () => {
    const generator = new ScriptedGenerator();
    await using _worker = await openTestWorker(redis.url, generator);
    const job = jobOf();
    const first = await generate(transport, job);
    const again = await generate(transport, job);

    expect(again).toEqual(first);
    expect(generator.starts).toHaveLength(1);
  });
});

describe('hand-over', () => {
  it('gives every request to another worker at a token boundary, without counting the claim', async () => {
    const leaving = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(redis.url, leaving, { context: { workerId: 'leaving' } });
    const jobs = Array.from({ length: 4 }, (_, i) => jobOf({ maxTokens: 20 + i }));
    const results = jobs.map((job) => generate(transport, job));
    await leaving.started(4);
    for (const { id } of jobs) await stepUntil(redis.client, leaving, { id, count: 2 });
    const heir = new ScriptedGenerator();
    await using _heir = await openTestWorker(redis.url, heir);

    await worker.stop();

    for (const [i, job] of jobs.entries()) {
      const { texts, ids } = (await results[i])!;
      expect(texts).toEqual([scriptedText(job)]);
      expectContinuous(ids);
      expect(await redis.client.llen(keys.request(job.id).claims)).toBe(1);
    }
    expect(leaving.numRunning).toBe(0);
  });

  it('puts requests at the head of the queue, before all that waited', async () => {
    const full = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(redis.url, full, { maxRunning: 2 });
    const jobs = Array.from({ length: 5 }, () => jobOf());
    const results = [];
    for (const [i, job] of jobs.entries()) {
      results.push(generate(transport, job));
      if (i < 2) await full.started(i + 1);
      else await waiting(i - 1);
    }
    await worker.stop();
    await waiting(5);
    const heir = new ScriptedGenerator();
    await using _heir = await openTestWorker(redis.url, heir, { maxRunning: 1 });
    await Promise.all(results);

    const order = heir.starts.map(({ id }) => jobs.findIndex((job) => job.id === id));
    expect(order.slice(0, 2).sort()).toEqual([0, 1]);
    expect(order.slice(2)).toEqual([2, 3, 4]);
  });

  it('leaves what is queued to others', async () => {
    const full = new ScriptedGenerator('by-hand');
    const worker = await openTestWorker(redis.url, full, { maxRunning: 1 });
    const jobs = Array.from({ length: 5 }, () => jobOf());
    const results = jobs.map((job) => generate(transport, job));
    await full.started(1);
    await worker.stop();
    await using _heir = await openTestWorker(redis.url, new ScriptedGenerator(), { maxRunning: 2 });

    for (const [i, result] of results.entries()) {
      expect((await result).texts).toEqual([scriptedText(jobs[i]!)]);
    }
  });
});

describe('a worker whose rows are asked for by many choices', () => {
  it('leaves further requests to others until it has room again', async () => {
    const full = new ScriptedGenerator('by-hand');
    await using _full = await openTestWorker(redis.url, full, { maxRunning: 4 });
    const jobs = Array.from({ length: 4 }, () => jobOf({ n: 4 }));
    const results = jobs.slice(0, 2).map((job) => generate(transport, job));
    await full.started(2);
    results.push(...jobs.slice(2).map((job) => generate(transport, job)));
    await waiting(2);
    const other = new ScriptedGenerator();
    const worker = await openTestWorker(redis.url, other, { maxRunning: 4 });
    await Promise.all(results.slice(2));
    expect(other.starts).toHaveLength(2);
    await worker.stop();

    while (full.numRunning > 0) full.step();
    results.push(generate(transport, jobOf()));
    await full.started(3);
    while (full.numRunning > 0) full.step();
    await Promise.all(results);
  });
});

describe('an end before the end', () => {
  it('comes within one step of a cancel, and reports what was generated', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator);
    const job = jobOf();
    const result = generate(transport, job);
    await generator.started(1);
    await stepUntil(redis.client, generator, { id: job.id, count: 1 });
    const { numTokens } = generator;

    await transport.cancel(job.id);
    await vi.waitFor(() => expect(generator.isCancelled(job.id)).toBe(true));
    generator.step();

    const { last } = await result;
    expect(last).toMatchObject({ type: 'done', usage: { completionTokens: numTokens } });
    expect((await transport.request(job.id))?.status).toBe('cancelled');
  });

  it('reaches a worker that missed the message, through the flag', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator);
    const job = jobOf();
    const result = generate(transport, job);
    await generator.started(1);
    await redis.client.hset(keys.request(job.id).state, 'cancel', 'cancelled');

    generator.step();
    await vi.waitFor(() => expect(generator.isCancelled(job.id)).toBe(true));
    generator.step();
    expect((await result).last?.type).toBe('done');
  });

  it('comes with the deadline', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(redis.url, generator);
    const job = jobOf({ deadlineMs: Date.now() + 100 });
    const result = transport.submit(job, never).then(readAll);
    await generator.started(1);

    await vi.waitFor(() => expect(generator.isCancelled(job.id)).toBe(true));
    generator.step();
    expect((await result).last).toMatchObject({ type: 'done', usage: { completionTokens: 0 } });
    expect((await transport.request(job.id))?.status).toBe('expired');
  });

  it('is a clear failure of the worker when it meets a bug, and the request goes elsewhere', async () => {
    const broken = new ScriptedGenerator('by-hand');
    broken.start = () => {
      throw new Error('a bug');
    };
    await using worker = await openTestWorker(redis.url, broken);
    const job = jobOf();
    const result = generate(transport, job);

    await expect(worker.over).resolves.toMatchObject({ message: 'a bug' });
    worker.kill();
    await using _heir = await openTestWorker(redis.url, new ScriptedGenerator());
    expect((await result).texts).toEqual([scriptedText(job)]);
  });
});

describe('Redis', () => {
  it('may be killed in the middle of many requests', async () => {
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());
    const jobs = Array.from({ length: 8 }, () => jobOf({ maxTokens: 3000 }));
    const results = jobs.map((job) => generate(transport, job));
    await vi.waitFor(async () => {
      for (const { id } of jobs) expect(await numLogged(id)).toBeGreaterThan(0);
    });

    await redis.stop('SIGKILL');
    await redis.start();

    for (const [i, job] of jobs.entries()) {
      const { texts, ids, last } = (await results[i])!;
      expect(texts[0] === scriptedText(job)).toBe(true);
      expect(last?.type).toBe('done');
      expectContinuous(ids);
    }
  });
});
