import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { freePort } from '../../infra/redis/private-redis.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { startWorker, type WorkerProcess } from '../support/worker-process.ts';
import { generate } from '../support/workers.ts';

const MIB = 2 ** 20;
const KV_CACHE_MIB = 64;
const PREFIX_CACHE_MIB = 1;
/** Of the embedded model: 5 layers, 4 heads of 32 for keys and for values, 4 bytes each. */
const BLOCK_BYTES = 64 * 5 * 2 * 4 * 32 * 4;
const MAX_BLOCKS = 3; // in a MiB
let redis: TestRedis;
let transport: RedisTransport;
let worker: WorkerProcess;
let port: number;

beforeAll(async () => {
  redis = await openTestRedis();
  port = await freePort();
  worker = startWorker({
    REDIS_URL: redis.url,
    METRICS_PORT: `${port}`,
    MAX_SEQUENCES: '2',
    KV_CACHE_MIB: `${KV_CACHE_MIB}`,
    PREFIX_CACHE_MIB: `${PREFIX_CACHE_MIB}`,
  });
  transport = await openRedisTransport(redis.url);
  await worker.ready;
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await worker[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

/** What `GET /metrics` says now, by name. */
async function scrape(): Promise<Record<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const samples = text.matchAll(/^(\w+)\{model="stories-target"\} (\S+)$/gm);
  return Object.fromEntries(Array.from(samples, ([, name, value]) => [name, Number(value)]));
}

async function servedJob(overrides: Partial<Job>): Promise<Job> {
  const [model] = await transport.models();
  const { name, fingerprint } = model!.card;
  return jobOf({ model: name, fingerprint, ignoreEos: true, speculation: 'off', ...overrides });
}

const promptOf = (seed: number) => Array.from({ length: 200 }, (_, i) => 300 + ((i * seed) % 97));

it('tells of rows, of those that wait for one, and of memory', async () => {
  expect(await scrape()).toMatchObject({
    num_requests_running: 0,
    num_requests_waiting: 0,
    num_preemptions_total: 0,
    kv_cache_bytes: 0,
    kv_cache_usage_perc: 0,
    kv_cache_budget_bytes: KV_CACHE_MIB * MIB,
    prefix_cache_bytes: 0,
    prefix_cache_budget_bytes: PREFIX_CACHE_MIB * MIB,
  });
  const contextPolicy = { type: 'sinks', sinkTokens: 4, windowTokens: 100 } as const;
  const endless = await servedJob({ n: 3, maxTokens: null, contextPolicy });
  const leaving = new AbortController();
  const events = (await transport.submit(endless, leaving.signal))[Symbol.asyncIterator]();
  await events.next();

  const busy = await scrape();
  expect(busy).toMatchObject({ num_requests_running: 2, num_requests_waiting: 1 });
  expect(busy.kv_cache_bytes).toBeGreaterThan(BLOCK_BYTES);
  expect(busy.kv_cache_usage_perc).toBe(busy.kv_cache_bytes! / KV_CACHE_MIB / MIB);
  await generate(transport, await servedJob({ maxTokens: 1 }));
  expect((await scrape()).num_preemptions_total).toBeGreaterThan(busy.num_preemptions_total!);
  leaving.abort();
  await transport.cancel(endless.id);
  await vi.waitFor(async () => {
    const idle = { num_requests_running: 0, num_requests_waiting: 0, kv_cache_bytes: 0 };
    expect(await scrape()).toMatchObject(idle);
  });
});

it('tells of prompt tokens that were known, and of blocks that went for others', async () => {
  /** What a request for one token adds to each count. */
  async function added(seed: number) {
    const before = await scrape();
    await generate(transport, await servedJob({ prompts: [promptOf(seed)], maxTokens: 1 }));
    const after = await scrape();
    return ['queries_total', 'hits_total', 'evicted_blocks_total'].map(
      (name) => after[`prefix_cache_${name}`]! - before[`prefix_cache_${name}`]!,
    );
  }
  await added(3);

  expect(await added(5)).toEqual([199, 0, MAX_BLOCKS]);
  expect(await added(5)).toEqual([199, 192, 0]);
  expect(await added(7)).toEqual([199, 0, MAX_BLOCKS]);
  expect(await scrape()).toMatchObject({ prefix_cache_bytes: MAX_BLOCKS * BLOCK_BYTES });
});
