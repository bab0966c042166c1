import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { DEAD_LETTERS_FOR_MS } from '../../shared/protocol/webhook.ts';
import { requestRedelivery } from '../../shared/protocol/webhook-outbox.ts';
import { answering, dropping, hanging, ok, openReceiver } from '../support/receivers.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { jobFor, verified, WebhookJobs, waitForCount } from '../support/webhook-jobs.ts';
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

/** Of the end of a job that was queued, started and ended. */
const idOf = ({ id }: Job) => `msg_${id}_2`;

function redeliver(job: Job, nonce: string = randomUUID()): Promise<void> {
  return requestRedelivery(redis.client, keys, { webhookId: idOf(job), tenant: job.tenant, nonce });
}

describe('webhooks that are not taken', () => {
  it('try again what is answered with 500, dropped or left hanging, until it is taken', async () => {
    await using receiver = await openReceiver(answering(500));
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    for (const [i, respond] of [dropping, hanging, ok].entries()) {
      await waitForCount(receiver, i + 1);
      receiver.respond = respond;
    }
    await vi.waitFor(async () => expect((await jobs.attemptsOf(job)).length).toBe(4), 20_000);
    expect((await jobs.attemptsOf(job)).map(({ status }) => status)).toEqual([
      500,
      null,
      null,
      204,
    ]);
    expect(new Set(verified(receiver).map(({ id }) => id)).size).toBe(1);
    expect(await redis.client.zcard(keys.deadLettersOf(job.tenant).index)).toBe(0);
  });

  it('come back no sooner than their receiver asks for', async () => {
    await using receiver = await openReceiver(answering(503, { 'retry-after': '1' }));
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_RETRY_SECONDS: '0.1' });
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    await waitForCount(receiver, 2);
    const [first, second] = receiver.received;
    expect(second!.atMs - first!.atMs).toBeGreaterThanOrEqual(1000);
  });

  it('follow no redirect, and give up when the schedule is exhausted', async () => {
    await using elsewhere = await openReceiver();
    await using receiver = await openReceiver(answering(302, { location: elsewhere.url }));
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_RETRY_SECONDS: '0.1,0.1' });
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    expect(await jobs.waitForDeadLetter(job)).toMatchObject({
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
    await jobs.submit(job);
    await jobs.work(job);
    await jobs.waitForDeadLetter(job);
    receiver.respond = ok;
    await redeliver(job);
    await jobs.waitForNoDeadLetter(job);
    expect(new Set(verified(receiver).map(({ id }) => id)).size).toBe(1);
  });

  it('deliver a dead letter whose job has expired, and keep nothing of it then', async () => {
    await using receiver = await openReceiver(answering(404));
    await using _webhooks = await openTestWebhooks(redis.url, { WEBHOOK_RETRY_SECONDS: '0.1' });
    const job = jobFor(receiver.url, { payload: 'full' });
    await jobs.submit(job);
    await jobs.work(job);
    await jobs.waitForDeadLetter(job);
    const kept = await redis.client.pttl(keys.deadLettersOf(job.tenant).letter(idOf(job)));
    expect(kept).toBeGreaterThan(DEAD_LETTERS_FOR_MS - 60_000);
    expect(await redis.client.pttl(keys.deliveriesOf(job.id))).toBeGreaterThanOrEqual(kept - 1000);
    await jobs.expire(job);

    receiver.respond = ok;
    await redeliver(job);
    await jobs.waitForNoDeadLetter(job);
    const deliveries = verified(receiver);
    expect(deliveries).toHaveLength(3);
    expect(deliveries[2]).toEqual(deliveries[0]);
    expect(await redis.client.keys(`*${job.tenant}*dead-letter:*`)).toEqual([]);
    const { prefix, name } = keys.deliveries;
    await vi.waitFor(async () =>
      expect(await redis.client.keys(`${prefix}:${name}:msg_${job.id}*`)).toEqual([]),
    );
  });

  it('try no more what a redelivery has delivered', async () => {
    await using receiver = await openReceiver(answering(500));
    const environment = { WEBHOOK_RETRY_SECONDS: '3600' };
    await using _webhooks = await openTestWebhooks(redis.url, environment);
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    await waitForCount(receiver, 1);
    receiver.respond = ok;
    await redeliver(job);
    await waitForCount(receiver, 2);
    const { prefix, name } = keys.deliveries;
    await vi.waitFor(async () =>
      expect(await redis.client.zscore(`${prefix}:${name}:delayed`, idOf(job))).toBeNull(),
    );
  });

  it('send again what was delivered long ago, made anew from its request', async () => {
    await using receiver = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url);
    const job = jobFor(receiver.url);
    await jobs.submit(job);
    await jobs.work(job);
    await waitForCount(receiver, 1);
    await vi.waitFor(async () => expect((await jobs.attemptsOf(job)).length).toBe(1));
    for (const nonce of ['a', 'a', 'b']) await redeliver(job, nonce);
    await waitForCount(receiver, 3);
    const [first, second, third] = verified(receiver);
    expect([second, third]).toEqual([first, first]);
    await vi.waitFor(async () => expect((await jobs.attemptsOf(job)).length).toBe(3));
    expect(await redis.client.llen(keys.webhookOutbox)).toBe(0);
  });

  it('are signed with the secrets that their tenant has at each attempt', async () => {
    await using receiver = await openReceiver(answering(500));
    const { secret: _, ...webhook } = jobFor(receiver.url).webhook!;
    const job = { ...jobFor(receiver.url), webhook };
    const [old, next] = [
      'the secret that was the first one',
      'the secret that replaces it soon',
    ].map((text) => `whsec_${Buffer.from(text).toString('base64')}`);
    const environment = { WEBHOOK_RETRY_SECONDS: Array(40).fill('0.1').join(',') };
    await jobs.submit(job);
    await jobs.work(job);
    const secretsBefore = `${job.tenant}:${old}`;
    await using before = await openTestWebhooks(redis.url, {
      ...environment,
      WEBHOOK_SECRETS: secretsBefore,
    });
    await redis.client.zadd(keys.pendingJobs, 0, job.id);
    await waitForCount(receiver, 1);
    await before[Symbol.asyncDispose]();
    // One that knows no secret of the tenant sends nothing, and does not take that for a success.
    const numBefore = receiver.received.length;
    await using unable = await openTestWebhooks(redis.url, environment);
    await vi.waitFor(async () => {
      const attempts = await jobs.attemptsOf(job);
      expect(attempts.at(-1)).toMatchObject({
        status: null,
        error: expect.stringContaining('no secret of the tenant'),
      });
    }, 20_000);
    await unable[Symbol.asyncDispose]();
    expect(receiver.received).toHaveLength(numBefore);

    receiver.respond = ok;
    await using _after = await openTestWebhooks(redis.url, {
      ...environment,
      WEBHOOK_SECRETS: `${secretsBefore},${job.tenant}:${next}`,
    });
    await waitForCount(receiver, numBefore + 1);
    const { body, headers } = receiver.received.at(-1)!;
    for (const secret of [old!, next!]) {
      new Webhook(secret).verify(body, headers);
      new SvixWebhook(secret).verify(body, headers);
    }
    const [first] = receiver.received;
    new Webhook(old!).verify(first!.body, first!.headers);
    expect(() => new Webhook(next!).verify(first!.body, first!.headers)).toThrow();
  });

  it('send nothing more to an endpoint that answered 410, and say so', async () => {
    await using receiver = await openReceiver(answering(410));
    await using _webhooks = await openTestWebhooks(redis.url);
    const first = jobFor(receiver.url);
    await jobs.submit(first);
    await jobs.work(first);
    await jobs.waitForDeadLetter(first);
    const second = jobFor(receiver.url, { tenant: first.tenant });
    await jobs.submit(second);
    await jobs.work(second);
    await vi.waitFor(async () => expect((await jobs.attemptsOf(second)).length).toBe(1), 20_000);
    expect(await jobs.attemptsOf(second)).toMatchObject([
      { status: null, error: 'not sent: the endpoint answered 410 before' },
    ]);
    expect(receiver.received.length).toBe(1);

    receiver.respond = ok;
    await redeliver(second);
    await waitForCount(receiver, 2);
    const disabled = keys.disabledEndpointsOf(first.tenant);
    await vi.waitFor(async () => expect(await redis.client.zcard(disabled)).toBe(0));
  });

  it('reach a receiver at once though another one hangs, with a URL for each job', async () => {
    await using dead = await openReceiver(hanging);
    await using well = await openReceiver();
    await using _webhooks = await openTestWebhooks(redis.url, {
      WEBHOOK_CONCURRENCY: '8',
      WEBHOOK_TIMEOUT_MS: '15000',
      GRACE_MS: '100',
    });
    const { tenant } = jobFor(dead.url);
    for (let i = 0; i < 20; i += 1) {
      const job = jobFor(`${dead.url}/${i}`, { tenant });
      await jobs.submit(job);
      await jobs.work(job);
    }
    await waitForCount(dead, 1);
    const startMs = Date.now();
    for (const job of [jobFor(well.url, { tenant }), jobFor(well.url)]) {
      await jobs.submit(job);
      await jobs.work(job);
    }
    await waitForCount(well, 2);
    expect(Date.now() - startMs).toBeLessThan(5000);
    expect(dead.received.length).toBeLessThanOrEqual(2);
  });
});
