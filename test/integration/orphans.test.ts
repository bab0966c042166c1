import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator } from '../support/scripted-generator.ts';
import { generate, openTestWorker, testQueue } from '../support/workers.ts';

const keys = new Keys();
const never = new AbortController().signal;
const ORPHAN_MS = 300;
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

function statusOf(id: RequestId): Promise<string | null> {
  return redis.client.hget(keys.request(id).state, 'status');
}

function openWorker(generator: ScriptedGenerator, queue = testQueue) {
  return openTestWorker(redis.url, generator, { queue, context: { orphanMs: ORPHAN_MS } });
}

/** Submits a job at an edge that is killed once it runs. */
async function submitAtDyingEdge(job: Job, generator: ScriptedGenerator): Promise<void> {
  const edge = await openRedisTransport(redis.url);
  await edge.submit(job, never);
  await generator.started(1);
  generator.step();
  await edge[Symbol.asyncDispose]();
}

/** A token every few milliseconds, for longer than a request may be an orphan. */
async function stepOn(generator: ScriptedGenerator): Promise<void> {
  const stepping = setInterval(() => generator.step(), 5);
  await new Promise((resolve) => setTimeout(resolve, 2 * ORPHAN_MS));
  clearInterval(stepping);
}

describe('a request whose edge died', () => {
  it('is cancelled when nobody listens for long, and its row is free', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openWorker(generator);
    const job = jobOf({ maxTokens: 100_000 });
    await submitAtDyingEdge(job, generator);
    await stepOn(generator);

    await vi.waitFor(async () => {
      generator.step();
      expect(await statusOf(job.id)).toBe('cancelled');
    });
    expect(generator.numRunning).toBe(0);
  });

  it('goes on for a client that came to another edge', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openWorker(generator);
    const job = jobOf({ maxTokens: 100_000 });
    await submitAtDyingEdge(job, generator);
    await vi.waitFor(async () => {
      generator.step();
      const { state } = keys.request(job.id);
      expect(await redis.client.hexists(state, 'unheardSinceMs')).toBe(1);
    });
    const reading = new AbortController();
    const events = await transport.open(job.id, null, reading.signal);
    const iterator = events[Symbol.asyncIterator]();
    await iterator.next(); // a slow reader, who is subscribed all the same
    await stepOn(generator);

    expect(await statusOf(job.id)).toBe('running');
    reading.abort();
    await stepOn(generator);
    await vi.waitFor(async () => expect(await statusOf(job.id)).toBe('cancelled'));
  });

  it.each([
    { onDisconnect: 'continue' },
    { background: true },
    { class: 'batch', background: true },
  ] as const)('goes on where nobody has to listen: %o', async (overrides) => {
    const generator = new ScriptedGenerator('by-hand');
    const queue = 'class' in overrides ? { ...testQueue, class: overrides.class } : testQueue;
    await using _worker = await openWorker(generator, queue);
    const job = jobOf({ maxTokens: 100_000, ...overrides });
    await submitAtDyingEdge(job, generator);
    await stepOn(generator);

    expect(await statusOf(job.id)).toBe('running');
    await transport.cancel(job.id);
    await vi.waitFor(async () => {
      generator.step();
      expect(await statusOf(job.id)).toBe('cancelled');
    });
  });
});

describe('a request that is listened to', () => {
  it('is never cancelled so', async () => {
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openWorker(generator);
    const job = jobOf({ maxTokens: 8000 });
    const result = generate(transport, job);
    await generator.started(1);
    await stepOn(generator);
    while (generator.numRunning > 0) generator.step();

    expect((await result).last).toMatchObject({ usage: { completionTokens: 8000 } });
    expect(await statusOf(job.id)).toBe('succeeded');
  });
});
