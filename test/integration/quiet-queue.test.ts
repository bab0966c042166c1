import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { QuietQueueWatch } from '../../worker/queue/quiet-queue-watch.ts';
import { createLog } from '../../worker/telemetry/log.ts';
import { Metrics } from '../../worker/telemetry/metrics.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, testQueue } from '../support/workers.ts';

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

/** BullMQ's consumers that ask meanwhile fall asleep for half a minute, whatever comes. */
async function lullConsumers(): Promise<() => Promise<unknown>> {
  const { prefix, name } = keys.queue(testQueue);
  const [meta, limiter] = [`${prefix}:${name}:meta`, `${prefix}:${name}:limiter`];
  await redis.client.hset(meta, 'max', 1, 'duration', 60_000);
  await redis.client.set(limiter, 5, 'PX', 60_000);
  return async () => {
    await redis.client.hdel(meta, 'max', 'duration');
    await redis.client.del(limiter);
  };
}

describe('a queue that holds requests back', () => {
  it('is noticed by a worker that has room', async () => {
    const job = jobOf({ fingerprint: 'quiet' });
    await transport.submit(job, never);
    const stuck = Promise.withResolvers<void>();
    using _watch = new QuietQueueWatch(redis.client, keys, {
      queue: job,
      checkMs: 10,
      hasRoom: () => true,
      numTaken: () => 0,
      onStuck: stuck.resolve,
    });
    await stuck.promise;
    await transport.cancel(job.id);
  });

  it('makes the worker ask with a new consumer, and say so in log and metrics', async () => {
    const metrics = new Metrics({ model: 'm' });
    const log = metrics.countingLog(createLog('silent'));
    const numReopened = async () => {
      const { values } = await metrics.registry.getSingleMetric('rivulet_events_total')!.get();
      return values.find(({ labels }) => labels.event === 'consumer_reopened')?.value ?? 0;
    };
    const wakeConsumers = await lullConsumers();
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator(), {
      context: { log },
    });
    const job = jobOf();
    const result = generate(transport, job);
    await vi.waitFor(async () => expect(await numReopened()).toBe(1), 10_000);
    await wakeConsumers(); // too late for the first two

    expect((await result).texts).toEqual([scriptedText(job)]);
    expect(await metrics.registry.metrics()).toContain('{event="consumer_reopened",model="m"}');
  });
});
