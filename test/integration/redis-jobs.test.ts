import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { createRequestId, type TenantId, toTenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys();
const DAY_MS = 24 * 3_600_000;
let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url, { maxQueued: 100 });
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

let numTenants = 0;

function backgroundOf(fields: Partial<Job> = {}): Job {
  numTenants += 1;
  return jobOf({ tenant: toTenantId(`tenant-${numTenants}`), background: true, ...fields });
}

const indexOf = (tenant: TenantId) => redis.client.zrange(keys.jobsOf(tenant), '0', '-1');
const all = { after: null, limit: 100, status: null, endpoint: null, metadata: {} } as const;

/** Puts entries of jobs that nobody knows any longer into an index. */
async function forgotten(tenant: TenantId, count: number, createdMs: number): Promise<void> {
  const ids = Array.from({ length: count }, () => createRequestId());
  await Promise.all(ids.map((id) => redis.client.zadd(keys.jobsOf(tenant), createdMs, id)));
}

describe('RedisJobs', () => {
  it('leaves word of a job for whoever delivers, to look at within seconds', async () => {
    const job = backgroundOf();
    const beforeMs = Date.now();
    await transport.jobs.enqueue(job);

    const dueMs = Number(await redis.client.zscore(keys.pendingJobs, job.id));
    expect(dueMs).toBeGreaterThanOrEqual(beforeMs + 5000);
    expect(dueMs).toBeLessThanOrEqual(Date.now() + 5000);
    const [entry] = await redis.client.lrange(keys.request(job.id).outbox, 0, -1);
    expect(JSON.parse(entry ?? '')).toMatchObject({ n: 0, type: 'job.queued' });
  });

  it('makes no request of which that word cannot be left', async () => {
    const prefix = 'broken';
    const broken = new Keys(prefix);
    await redis.client.set(broken.pendingJobs, 'no sorted set');
    await using other = await openRedisTransport(redis.url, { prefix });
    const job = backgroundOf();
    await expect(other.jobs.enqueue(job)).rejects.toThrow('WRONGTYPE');
    expect(await other.request(job.id)).toBeNull();

    await redis.client.del(broken.pendingJobs);
    await other.jobs.enqueue(job);
    expect(await other.request(job.id)).toMatchObject({ status: 'queued' });
  });

  it('leaves no word of the lines of a batch, nor of a job that is refused', async () => {
    const line = backgroundOf({ class: 'batch' });
    await transport.jobs.enqueue(line);
    const model = 'full';
    for (let i = 0; i < 100; i += 1) await transport.jobs.enqueue(backgroundOf({ model }));
    const refused = backgroundOf({ model });
    await expect(transport.jobs.enqueue(refused)).rejects.toMatchObject({
      code: 'rate_limit_exceeded',
    });

    for (const job of [line, refused]) {
      expect(await redis.client.zscore(keys.pendingJobs, job.id)).toBeNull();
      expect(await indexOf(job.tenant)).toEqual([]);
      expect(await redis.client.exists(keys.request(job.id).outbox)).toBe(0);
    }
    expect(await transport.request(refused.id)).toBeNull();
  });

  it('drops jobs that expired from a list that meets them, but none that is about to be created', async () => {
    const job = backgroundOf();
    await transport.jobs.enqueue(job);
    await forgotten(job.tenant, 60, Date.now() - 120_000);
    await forgotten(job.tenant, 1, Date.now() - 1000);

    const page = await transport.jobs.list({ ...all, tenant: job.tenant });
    expect(page.jobs.map(({ id }) => id)).toEqual([job.id]);
    // The last one that it looked at stays: somebody may go on after it.
    expect(await indexOf(job.tenant)).toHaveLength(3);
  });

  it('keeps the index of a tenant small that never lists', async () => {
    const { tenant } = backgroundOf();
    await forgotten(tenant, 60, Date.now() - 2 * DAY_MS);
    const kept = backgroundOf({ tenant, model: 'kept' });
    await transport.jobs.enqueue(kept);
    // Old only now: an old one that was not created yet would be taken for forgotten.
    await redis.client.zadd(keys.jobsOf(tenant), Date.now() - 3 * DAY_MS, kept.id);
    for (let i = 0; i < 60; i += 1) {
      await transport.jobs.enqueue(backgroundOf({ tenant, model: `of-${i % 3}` }));
    }

    const ids = await indexOf(tenant);
    expect(ids.length).toBeLessThan(95); // of 121
    expect(ids).toContain(kept.id);
  });

  it('takes a place in whichever part of the queue a request is', async () => {
    const model = 'places';
    const [first, second, third] = ['a', 'b', 'c'].map(() => backgroundOf({ model }));
    for (const job of [first, second, third]) await transport.jobs.enqueue(job!);
    const { wait, prioritized } = keys.waitingJobs(first!);
    // As BullMQ does with jobs whose worker was lost: to the end that is served first.
    for (const job of [third!, second!]) {
      await redis.client.zrem(prioritized, job.id);
      await redis.client.rpush(wait, job.id);
    }

    const places = await Promise.all(
      [first, second, third].map((job) => transport.jobs.place(job!)),
    );
    expect(places.map((place) => place?.numAhead)).toEqual([2, 0, 1]);
  });
});
