import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport } from '../../edge/transport/redis-transport.ts';
import { toTenantId } from '../../shared/ids.ts';
import { encodeEvent } from '../../shared/protocol/event.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { pushNotice, requestRedelivery } from '../../shared/protocol/webhook-outbox.ts';
import { RequestQueue } from '../../worker/webhooks/request-queue.ts';
import { openReceiver } from '../support/receivers.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { jobFor, usage, verified, WebhookJobs, waitForCount } from '../support/webhook-jobs.ts';
import { openTestWebhooks } from '../support/webhooks.ts';

const keys = new Keys();
let redis: TestRedis;
let jobs: WebhookJobs;

beforeAll(async () => {
  redis = await openTestRedis();
  jobs = new WebhookJobs(redis);
});
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

const EVENTS = [
  'job.queued',
  'job.started',
  'job.succeeded',
  'job.failed',
  'job.cancelled',
  'job.expired',
];

describe('webhooks', () => {
  it('tell of a job from its queueing to its end, each once, under ids of its own', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { events: EVENTS });
    await jobs.submit(job);
    await jobs.work(job);

    await waitForCount(receiver, 3);
    const events = verified(receiver).sort((a, b) => a.id.localeCompare(b.id));
    expect(events.map(({ id, type }) => [id, type])).toEqual([
      [`msg_${job.id}_0`, 'job.queued'],
      [`msg_${job.id}_1`, 'job.started'],
      [`msg_${job.id}_2`, 'job.succeeded'],
    ]);
    expect(events[2].data).toMatchObject({ id: job.id, object: 'job', status: 'succeeded' });
    expect(events[2].data).not.toHaveProperty('result');
    await vi.waitFor(async () =>
      expect(await redis.client.zscore(keys.pendingJobs, job.id)).toBeNull(),
    );
    expect(await redis.client.xlen(keys.noticesOf(job.tenant))).toBe(3);
  });

  it('leave out what was not asked for, but list it', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { events: ['job.succeeded'] });
    await jobs.submit(job);
    await jobs.work(job);
    await waitForCount(receiver, 1);
    expect(verified(receiver).map(({ type }) => type)).toEqual(['job.succeeded']);
    expect(await redis.client.xlen(keys.noticesOf(job.tenant))).toBe(3);
  });

  it('carry the answer when a full payload is asked for', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { payload: 'full' });
    await jobs.submit(job);
    await jobs.work(job);
    await waitForCount(receiver, 1);
    const { result } = verified(receiver)[0].data;
    expect(result).toMatchObject({ id: job.id, object: 'text_completion' });
    expect(result.choices[0]).toMatchObject({ text: 'Hello there', finish_reason: 'stop' });
  });

  it('hand out output in numbered pieces that are the whole together', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_OUTPUT_MS: '100' });
    const job = jobFor(receiver.url, { events: ['job.output', 'job.succeeded'] });
    await jobs.submit(job);
    const claim = await jobs.scripts.claim(job.id, 'worker', 2);
    if (claim.type !== 'claimed') throw new Error(claim.type);
    const say = (text: string, firstSeq: number, isEnd: boolean) => {
      const finishReason = isEnd ? ('stop' as const) : null;
      const tokens = { choice: 0, tokenIds: [1], text, logprobs: null };
      const payloads = [encodeEvent({ type: 'tokens', ...tokens, finishReason })];
      return jobs.scripts.append(job.id, { epoch: claim.epoch, firstSeq, payloads });
    };
    await say('Once ', 0, false);
    await waitForCount(receiver, 1);
    await say('upon a time', 1, true);
    const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
    const payloads = [encodeEvent({ type: 'done', usage, timings, speculation: [] })];
    const status = 'succeeded';
    await jobs.scripts.finish(job.id, { epoch: claim.epoch, firstSeq: 2, payloads, status });
    await waitForCount(receiver, 3);
    const outputs = verified(receiver).filter(({ type }) => type === 'job.output');
    outputs.sort((a, b) => a.data.sequence - b.data.sequence);
    expect(outputs.map(({ id, data }) => [id, data.sequence, data.output])).toEqual([
      [`msg_${job.id}_o0`, 0, [{ index: 0, text: 'Once ' }]],
      [`msg_${job.id}_o1`, 1, [{ index: 0, text: 'upon a time' }]],
    ]);
  });

  it('lose nothing and send nothing under another id when processes die, several at work', async () => {
    await using receiver = await openReceiver();
    const batch = Array.from({ length: 30 }, () => jobFor(receiver.url));
    for (let i = 0; i < batch.length; i += 10) {
      const first = await openTestWebhooks(redis.url);
      const second = await openTestWebhooks(redis.url);
      for (const job of batch.slice(i, i + 10)) {
        await jobs.submit(job);
        await jobs.work(job);
      }
      first.kill();
      second.kill();
    }
    await using _webhooks = await openTestWebhooks(redis.url);
    const ids = batch.map(({ id }) => `msg_${id}_2`).sort();
    await vi.waitFor(
      () => expect([...new Set(verified(receiver).map(({ id }) => id))].sort()).toEqual(ids),
      30_000,
    );
    for (const job of batch) {
      await vi.waitFor(async () =>
        expect(await redis.client.zscore(keys.pendingJobs, job.id)).toBeNull(),
      );
      expect(await redis.client.xlen(keys.noticesOf(job.tenant))).toBe(3);
    }
  });

  it('tell of a job whose time was over long before anybody delivered, then let it go', async () => {
    await using receiver = await openReceiver();
    const brief = new WebhookJobs(redis, 1);
    const job = jobFor(receiver.url, { payload: 'full' });
    await brief.submit(job);
    await brief.work(job);
    await sleep(10); // by the clock of Redis
    await redis.client.zadd(keys.pendingJobs, 0, job.id); // it is long due
    await using _webhooks = await openTestWebhooks(redis.url);

    await waitForCount(receiver, 1);
    expect(verified(receiver)[0].data.result.choices[0]).toMatchObject({ text: 'Hello there' });
    const { state, log, outbox } = keys.request(job.id);
    await vi.waitFor(async () => expect(await redis.client.exists(state, log, outbox)).toBe(0));
  });

  it('come first when a job is deleted at its end', async () => {
    await using receiver = await openReceiver();
    await using transport = await openRedisTransport(redis.url);
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    expect(await transport.jobs.forget(job)).toBe('untold');
    await redis.client.zadd(keys.pendingJobs, 0, job.id);
    await using _webhooks = await openTestWebhooks(redis.url);

    await vi.waitFor(async () => expect(await transport.jobs.forget(job)).toBe('forgotten'));
    await waitForCount(receiver, 1);
    expect(verified(receiver)).toMatchObject([{ type: 'job.succeeded' }]);
    const { webhook: _, ...unheard } = jobFor(receiver.url);
    await jobs.submit(unheard);
    await jobs.work(unheard);
    expect(await transport.jobs.forget(unheard)).toBe('forgotten');
  });

  it('end a queued job whose deadline is over though its edge is gone', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { events: EVENTS, deadlineMs: Date.now() - 1 });
    await using queues = new RequestQueue(redis.client, keys);
    await queues.ensure(job);
    await jobs.submit(job);
    await waitForCount(receiver, 2);
    expect(
      verified(receiver)
        .map(({ type }) => type)
        .sort(),
    ).toEqual(['job.expired', 'job.queued']);
    const { prefix, name } = keys.queue(job);
    await vi.waitFor(async () =>
      expect(await redis.client.exists(`${prefix}:${name}:${job.id}`)).toBe(0),
    );
  });

  it('go on behind one of a batch that cannot be handed over', async () => {
    await using receiver = await openReceiver();
    const { webhook = null } = jobFor(receiver.url, { events: ['batch.completed'] });
    const noticeOf = (n: number) => ({
      webhookId: `msg_batch_${n}_0`,
      subject: `batch_${n}`,
      tenant: toTenantId(`batches-${n}`),
      event: 'batch.completed',
      atMs: Date.now(),
      webhook,
      data: { id: `batch_${n}` },
    });
    const [stuck, other] = [noticeOf(2), noticeOf(3)];
    await redis.client.set(keys.noticesOf(stuck.tenant), 'no stream');
    for (const notice of [stuck, other]) await pushNotice(redis.client, keys, notice);
    await using _webhooks = await openTestWebhooks(redis.url);
    const told = async () => verified(receiver).map(({ id }) => id);
    await vi.waitFor(async () => expect(await told()).toContain(other.webhookId));
    expect(await redis.client.llen(keys.webhookOutbox)).toBe(1);

    await redis.client.del(keys.noticesOf(stuck.tenant));
    await vi.waitFor(async () => expect(await redis.client.llen(keys.webhookOutbox)).toBe(0));
    expect(await redis.client.xlen(keys.noticesOf(stuck.tenant))).toBe(1);
  });

  it('keep a job that waits for days, which nobody has claimed', async () => {
    await using receiver = await openReceiver();
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    const { state, outbox } = keys.request(job.id);
    await redis.client.hset(state, 'createdMs', Date.now() - 2 * 86_400_000);
    await redis.client.zadd(keys.pendingJobs, 0, job.id);
    await using _webhooks = await openTestWebhooks(redis.url);
    await vi.waitFor(async () => {
      expect(await redis.client.pttl(state)).toBe(-1);
      expect(await redis.client.pttl(outbox)).toBe(-1);
    });
    await jobs.work(job);
    await waitForCount(receiver, 1);
  });

  it('forget nothing that is pushed for a batch, deliver it once, and again on demand', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const tenant = toTenantId('batch-tenant');
    const notice = {
      webhookId: 'msg_batch_1_0',
      subject: 'batch_1',
      tenant,
      event: 'batch.completed',
      atMs: Date.now(),
      webhook: jobFor(receiver.url, { events: ['batch.completed'] }).webhook ?? null,
      data: { id: 'batch_1' },
    };
    await pushNotice(redis.client, keys, notice);
    await pushNotice(redis.client, keys, notice);
    await vi.waitFor(async () => expect(await redis.client.llen(keys.webhookOutbox)).toBe(0));
    await waitForCount(receiver, 1);
    expect(verified(receiver)).toMatchObject([
      { type: 'batch.completed', data: { id: 'batch_1' } },
    ]);
    expect(await redis.client.xlen(keys.noticesOf(tenant))).toBe(1);

    const { webhookId } = notice;
    await requestRedelivery(redis.client, keys, { webhookId, tenant, nonce: 'a', notice });
    await waitForCount(receiver, 2);
    const [first, second] = verified(receiver);
    expect(second).toEqual(first);
  });
});
