import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { toUsage } from '../../shared/openai/chunks.ts';
import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { jsonOf } from '../support/edge.ts';
import { openReceiver } from '../support/receivers.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { jobFor, usage, verified, WebhookJobs, waitForCount } from '../support/webhook-jobs.ts';
import { openTestWebhooks } from '../support/webhooks.ts';

const keys = new Keys();
const stack = new AsyncDisposableStack();
let redis: TestRedis;
let transport: RedisTransport;
let jobs: WebhookJobs;

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  transport = stack.use(await openRedisTransport(redis.url));
  jobs = new WebhookJobs(redis);
});
afterAll(() => stack.disposeAsync());

const contextPolicy = { type: 'sinks', sinkTokens: 4, windowTokens: 8 } as const;
const says = (n: number): RequestEvent => {
  const finishReason = n === 5 ? 'length' : null;
  return {
    type: 'tokens',
    choice: 0,
    tokenIds: [n],
    text: `word${n} `,
    logprobs: null,
    finishReason,
  };
};
const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
const done: RequestEvent = { type: 'done', usage, timings, speculation: [] };

/** Says six words, of which a cut of the log leaves the last three, and ends. */
async function workTrimmed(job: Job): Promise<void> {
  await jobs.submit(job);
  const claim = await jobs.scripts.claim(job.id, 'worker', 2);
  if (claim.type !== 'claimed') throw new Error(claim.type);
  const { epoch } = claim;
  const payloads = [0, 1, 2, 3, 4, 5].map((n) => encodeEvent(says(n)));
  await jobs.scripts.append(job.id, { epoch, firstSeq: 0, payloads });
  const cut = { seq: 3, firstKept: `${epoch}-3`, choices: [] };
  expect(await jobs.scripts.trim(job.id, { epoch, marks: '[]', cut })).toBe(true);
  const end = { epoch, firstSeq: 6, payloads: [encodeEvent(done)], status: 'succeeded' } as const;
  await jobs.scripts.finish(job.id, end);
}

/** To whom all that is pending is due. */
async function openDueWebhooks() {
  const ids = await redis.client.zrange(keys.pendingJobs, 0, '-1');
  for (const id of ids) await redis.client.zadd(keys.pendingJobs, 0, id);
  return openTestWebhooks(redis.url);
}

describe('an endless job whose log was cut', () => {
  it('gives no tail for its answer, to client and receiver alike, and its whole usage', async () => {
    await using receiver = await openReceiver();
    const job = jobFor(receiver.url, { payload: 'full', contextPolicy });
    await workTrimmed(job);
    const app = createApp(() => transport, { apiKeys: new Map([['key', job.tenant]]) });
    const headers = { authorization: 'Bearer key' };
    const shown = await jsonOf(await app.request(`/v1/jobs/${job.id}`, { headers }));
    await using _webhooks = await openDueWebhooks();
    await waitForCount(receiver, 1);

    const error = { code: 'events_trimmed', message: expect.stringContaining(`${job.id}/events`) };
    for (const said of [shown, verified(receiver)[0].data]) {
      expect(said).toMatchObject({ status: 'succeeded', result: null, error });
      expect(said.usage).toEqual(toUsage(usage));
    }
  });

  it('says of a piece of output that its beginning is gone', async () => {
    await using receiver = await openReceiver();
    const whole = jobFor(receiver.url, { events: ['job.output'] });
    await jobs.submit(whole);
    await jobs.work(whole);
    await workTrimmed(jobFor(receiver.url, { events: ['job.output'], contextPolicy }));
    await using _webhooks = await openDueWebhooks();
    await waitForCount(receiver, 2);

    const pieces = verified(receiver).map(({ data }) => [data.output[0].text, data.truncated]);
    expect(pieces.sort()).toEqual([
      ['Hello there', false],
      ['word3 word4 word5 ', true],
    ]);
  });
});
