import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toUsage } from '../../shared/openai/chunks.ts';
import { eventsOfUnbegun } from '../../shared/protocol/cancelled.ts';
import { encodeEvent, type RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { CancelReason } from '../../shared/protocol/request-scripts.ts';
import { openReceiver } from '../support/receivers.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { jobFor, usage, verified, WebhookJobs, waitForCount } from '../support/webhook-jobs.ts';
import { openTestWebhooks } from '../support/webhooks.ts';

const stack = new AsyncDisposableStack();
let redis: TestRedis;
let jobs: WebhookJobs;

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  stack.use(await openTestWebhooks(redis.url));
  jobs = new WebhookJobs(redis);
});
afterAll(() => stack.disposeAsync());

const timings = { queuedMs: 1, prefillMs: 1, decodeMs: 1 };
const done: RequestEvent = { type: 'done', usage, timings, speculation: [] };
const failure: RequestEvent = {
  type: 'error',
  code: 'internal',
  message: '3 workers were lost while they worked on this request',
  param: null,
};

async function cancelQueued(job: Job, reason: CancelReason): Promise<void> {
  const events = eventsOfUnbegun(job, reason, Date.now()).map(encodeEvent);
  await jobs.scripts.cancel(job.id, reason, events);
}

/** The one delivery about the end of a job that was made so. */
async function toldOf(payload: 'thin' | 'full', end: (job: Job) => Promise<void>) {
  await using receiver = await openReceiver();
  const events = ['job.succeeded', 'job.failed', 'job.cancelled', 'job.expired'];
  const job = jobFor(receiver.url, { events, payload });
  await jobs.submit(job);
  await end(job);
  await waitForCount(receiver, 1);
  expect(receiver.received).toHaveLength(1);
  const told = verified(receiver)[0];
  expect(told.data).toMatchObject({ id: job.id, status: told.type.slice('job.'.length) });
  return told;
}

const ENDS: readonly (readonly [type: string, how: string, end: (job: Job) => Promise<void>])[] = [
  ['failed', 'by its workers', (job) => jobs.work(job, [], { last: failure, status: 'failed' })],
  ['cancelled', 'at work', (job) => jobs.work(job, ['Hi'], { last: done, status: 'cancelled' })],
  ['cancelled', 'in the queue', (job) => cancelQueued(job, 'cancelled')],
  ['expired', 'at work', (job) => jobs.work(job, ['Hi'], { last: done, status: 'expired' })],
  ['expired', 'in the queue', (job) => cancelQueued(job, 'deadline')],
];

describe('the end of a job', () => {
  it.each(ENDS)('is told as job.%s when that happens %s', async (status, _how, end) => {
    const told = await toldOf('thin', end);
    expect(told.type).toBe(`job.${status}`);
    expect(told.data).not.toHaveProperty('error');
  });

  it('is told with its error when it failed', async () => {
    const { data } = await toldOf('full', (job) =>
      jobs.work(job, ['Hi'], { last: failure, status: 'failed' }),
    );
    const error = { ...failure, type: 'server_error' }; // as OpenAI's errors name it
    expect(data).toMatchObject({ result: null, usage: null, error });
  });

  it('is told with what there is of its answer when it was cut short', async () => {
    const { data } = await toldOf('full', (job) =>
      jobs.work(job, ['Hi'], { last: done, status: 'cancelled' }),
    );
    expect(data).toMatchObject({ usage: toUsage(usage), error: null });
    expect(data.result.choices[0]).toMatchObject({ text: 'Hi' });
  });
});
