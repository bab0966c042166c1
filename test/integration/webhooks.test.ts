import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { toTenantId } from '../../shared/ids.ts';
import { encodeEvent } from '../../shared/protocol/event.ts';
import { encodeJob, type Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { pushNotice, requestRedelivery } from '../../shared/protocol/webhook-outbox.ts';
import { jobOf } from '../support/jobs.ts';
import {
  answering,
  dropping,
  hanging,
  ok,
  openReceiver,
  type Receiver,
} from '../support/receivers.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { openTestWebhooks } from '../support/webhooks.ts';

const keys = new Keys();
const secret = `whsec_${Buffer.from('a secret of at least 24 bytes!').toString('base64')}`;
let redis: TestRedis;
let scripts: RequestScripts;

beforeAll(async () => {
  redis = await openTestRedis();
  scripts = new RequestScripts(redis.client, keys, { isCluster: false, retentionMs: 60_000 });
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

interface JobOptions extends Partial<Job> {
  readonly events?: readonly string[];
  readonly payload?: 'thin' | 'full';
}

let numTenants = 0;

/** A job for one receiver, of a tenant of its own. */
function jobFor(url: string, options: JobOptions = {}): Job {
  const { events = ['job.succeeded'], payload = 'thin', ...overrides } = options;
  numTenants += 1;
  return jobOf({
    tenant: toTenantId(`tenant-${numTenants}`),
    background: true,
    webhook: { url, events: [...events], secret, payload },
    ...overrides,
  } as Partial<Job>);
}

async function submit(job: Job): Promise<void> {
  await redis.client.zadd(keys.pendingJobs, Date.now() + 5000, job.id);
  await scripts.create(job.id, encodeJob(job), { keepMs: 60_000, isNotified: true });
}

const usage = {
  promptTokens: 3,
  cachedTokens: 0,
  completionTokens: 2,
  acceptedPredictionTokens: 0,
  rejectedPredictionTokens: 0,
};

/** What a worker does: claims, says each text, ends. */
async function work(job: Job, texts: readonly string[] = ['Hello', ' there']): Promise<void> {
  const claim = await scripts.claim(job.id, 'worker', 2);
  if (claim.type !== 'claimed') throw new Error(claim.type);
  const says = texts.map((text, i) => {
    const finishReason = i === texts.length - 1 ? ('stop' as const) : null;
    return encodeEvent({
      type: 'tokens',
      choice: 0,
      tokenIds: [i],
      text,
      logprobs: null,
      finishReason,
    });
  });
  const { epoch } = claim;
  await scripts.append(job.id, { epoch, firstSeq: 0, payloads: says });
  const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
  const done = encodeEvent({ type: 'done', usage, timings, speculation: [] });
  await scripts.finish(job.id, {
    epoch,
    firstSeq: says.length,
    payloads: [done],
    status: 'succeeded',
  });
}

/** Every delivery, verified by the libraries that receivers use. */
function verified({ received }: Receiver) {
  return received.map(({ body, headers }) => {
    new Webhook(secret).verify(body, headers);
    new SvixWebhook(secret).verify(body, headers);
    return { id: headers['webhook-id'], ...JSON.parse(body) };
  });
}

async function waitForCount(receiver: Receiver, count: number): Promise<void> {
  await vi.waitFor(() => expect(receiver.received.length).toBeGreaterThanOrEqual(count), 20_000);
}

async function attemptsOf(job: Job): Promise<{ status: number | null; error: string | null }[]> {
  const attempts = await redis.client.lrange(keys.deliveriesOf(job.id), 0, -1);
  return attempts.map((attempt) => JSON.parse(attempt));
}

async function waitForDeadLetter(job: Job): Promise<unknown> {
  const { index, details } = keys.deadLettersOf(job.tenant);
  await vi.waitFor(async () => expect(await redis.client.zcard(index)).toBe(1), 20_000);
  const [id = ''] = await redis.client.zrange(index, 0, '-1');
  return JSON.parse((await redis.client.hget(details, id)) ?? 'null');
}

describe('webhooks', () => {
  it('tell of a job from its queueing to its end, each once, under ids of its own', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { events: EVENTS });
    await submit(job);
    await work(job);

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
    await submit(job);
    await work(job);
    await waitForCount(receiver, 1);
    expect(verified(receiver).map(({ type }) => type)).toEqual(['job.succeeded']);
    expect(await redis.client.xlen(keys.noticesOf(job.tenant))).toBe(3);
  });

  it('carry the answer when a full payload is asked for', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { payload: 'full' });
    await submit(job);
    await work(job);
    await waitForCount(receiver, 1);
    const { result } = verified(receiver)[0].data;
    expect(result).toMatchObject({ id: job.id, object: 'text_completion' });
    expect(result.choices[0]).toMatchObject({ text: 'Hello there', finish_reason: 'stop' });
  });

  it('hand out output in numbered pieces that are the whole together', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_OUTPUT_MS: '100' });
    const job = jobFor(receiver.url, { events: ['job.output', 'job.succeeded'] });
    await submit(job);
    const claim = await scripts.claim(job.id, 'worker', 2);
    if (claim.type !== 'claimed') throw new Error(claim.type);
    const say = (text: string, firstSeq: number, isEnd: boolean) => {
      const finishReason = isEnd ? ('stop' as const) : null;
      const tokens = { choice: 0, tokenIds: [1], text, logprobs: null };
      const payloads = [encodeEvent({ type: 'tokens', ...tokens, finishReason })];
      return scripts.append(job.id, { epoch: claim.epoch, firstSeq, payloads });
    };
    await say('Once ', 0, false);
    await waitForCount(receiver, 1);
    await say('upon a time', 1, true);
    const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
    const payloads = [encodeEvent({ type: 'done', usage, timings, speculation: [] })];
    const status = 'succeeded';
    await scripts.finish(job.id, { epoch: claim.epoch, firstSeq: 2, payloads, status });
    await waitForCount(receiver, 3);
    const outputs = verified(receiver).filter(({ type }) => type === 'job.output');
    outputs.sort((a, b) => a.data.sequence - b.data.sequence);
    expect(outputs.map(({ id, data }) => [id, data.sequence, data.output])).toEqual([
      [`msg_${job.id}_o0`, 0, [{ index: 0, text: 'Once ' }]],
      [`msg_${job.id}_o1`, 1, [{ index: 0, text: 'upon a time' }]],
    ]);
  });

  it('try again what is answered with 500, dropped or left hanging, until it is taken', async () => {
    await using receiver = await openReceiver(answering(500));
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url);
    await submit(job);
    await work(job);
    for (const [i, respond] of [dropping, hanging, ok].entries()) {
      await waitForCount(receiver, i + 1);
      receiver.respond = respond;
    }
    await vi.waitFor(async () => expect((await attemptsOf(job)).length).toBe(4), 20_000);
    expect((await attemptsOf(job)).map(({ status }) => status)).toEqual([500, null, null, 204]);
    expect(new Set(verified(receiver).map(({ id }) => id)).size).toBe(1);
    expect(await redis.client.zcard(keys.deadLettersOf(job.tenant).index)).toBe(0);
  });

  it('follow no redirect, and give up when the schedule is exhausted', async () => {
    await using elsewhere = await openReceiver();
    await using receiver = await openReceiver(answering(302, { location: elsewhere.url }));
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_RETRY_SECONDS: '0.1,0.1' });
    const job = jobFor(receiver.url);
    await submit(job);
    await work(job);
    expect(await waitForDeadLetter(job)).toMatchObject({
      webhookId: `msg_${job.id}_2`,
      requestId: job.id,
      type: 'job.succeeded',
      url: receiver.url,
      numAttempts: 3,
      status: 302,
    });
    expect(receiver.received.length).toBe(3);
    expect(elsewhere.received).toEqual([]);
  });

  it('deliver a dead letter once it is asked for again', async () => {
    await using receiver = await openReceiver(answering(404));
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_RETRY_SECONDS: '0.1' });
    const job = jobFor(receiver.url);
    await submit(job);
    await work(job);
    await waitForDeadLetter(job);
    receiver.respond = ok;
    await requestRedelivery(redis.client, keys, `msg_${job.id}_2`);
    const { index } = keys.deadLettersOf(job.tenant);
    await vi.waitFor(async () => expect(await redis.client.zcard(index)).toBe(0), 20_000);
    expect(new Set(verified(receiver).map(({ id }) => id)).size).toBe(1);
  });

  it('send again what was delivered long ago, made anew from its request', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url);
    await submit(job);
    await work(job);
    await waitForCount(receiver, 1);
    const { prefix, name } = keys.deliveries;
    await vi.waitFor(async () => expect((await attemptsOf(job)).length).toBe(1));
    await redis.client.del(`${prefix}:${name}:msg_${job.id}_2`);
    for (const nonce of ['a', 'a', 'b']) {
      await requestRedelivery(redis.client, keys, `msg_${job.id}_2`, nonce);
    }
    await waitForCount(receiver, 3);
    const [first, second, third] = verified(receiver);
    expect([second, third]).toEqual([first, first]);
    await vi.waitFor(async () => expect((await attemptsOf(job)).length).toBe(3));
    expect(await redis.client.llen(keys.webhookOutbox)).toBe(0);
  });

  it('send nothing more to an endpoint that answered 410, and say so', async () => {
    await using receiver = await openReceiver(answering(410));
    await using _webhooks = await openTestWebhooks(redis.url);
    const first = jobFor(receiver.url);
    await submit(first);
    await work(first);
    await waitForDeadLetter(first);
    const second = jobFor(receiver.url, { tenant: first.tenant });
    await submit(second);
    await work(second);
    await vi.waitFor(async () => expect((await attemptsOf(second)).length).toBe(1), 20_000);
    expect(await attemptsOf(second)).toMatchObject([
      { status: null, error: 'not sent: the endpoint answered 410 before' },
    ]);
    expect(receiver.received.length).toBe(1);

    receiver.respond = ok;
    await requestRedelivery(redis.client, keys, `msg_${second.id}_2`);
    await waitForCount(receiver, 2);
    const disabled = keys.disabledEndpointsOf(first.tenant);
    await vi.waitFor(async () => expect(await redis.client.hlen(disabled)).toBe(0));
  });

  it('reach a receiver at once though another one hangs', async () => {
    await using dead = await openReceiver(hanging);
    await using well = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_CONCURRENCY: '8' });
    const { tenant } = jobFor(dead.url);
    for (let i = 0; i < 20; i += 1) {
      const job = jobFor(dead.url, { tenant });
      await submit(job);
      await work(job);
    }
    await waitForCount(dead, 1);
    const job = jobFor(well.url);
    await submit(job);
    await work(job);
    await waitForCount(well, 1);
    expect(dead.received.length).toBeLessThan(20);
  });

  it('lose nothing and send nothing under another id when processes die, several at work', async () => {
    await using receiver = await openReceiver();
    const jobs = Array.from({ length: 30 }, () => jobFor(receiver.url));
    for (let i = 0; i < jobs.length; i += 10) {
      const first = await openTestWebhooks(redis.url);
      const second = await openTestWebhooks(redis.url);
      for (const job of jobs.slice(i, i + 10)) {
        await submit(job);
        await work(job);
      }
      first.kill();
      second.kill();
    }
    await using _webhooks = await openTestWebhooks(redis.url);
    const ids = jobs.map(({ id }) => `msg_${id}_2`).sort();
    await vi.waitFor(
      () => expect([...new Set(verified(receiver).map(({ id }) => id))].sort()).toEqual(ids),
      30_000,
    );
    for (const job of jobs) {
      await vi.waitFor(async () =>
        expect(await redis.client.zscore(keys.pendingJobs, job.id)).toBeNull(),
      );
      expect(await redis.client.xlen(keys.noticesOf(job.tenant))).toBe(3);
    }
  });

  it('end a queued job whose deadline is over though its edge is gone', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url, { events: EVENTS, deadlineMs: Date.now() - 1 });
    await submit(job);
    await waitForCount(receiver, 2);
    expect(
      verified(receiver)
        .map(({ type }) => type)
        .sort(),
    ).toEqual(['job.expired', 'job.queued']);
  });

  it('forget nothing that is pushed for a batch, and deliver it once', async () => {
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
  });
});
