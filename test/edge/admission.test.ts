import { describe, expect, it } from 'vitest';
import type { Job } from '../../shared/protocol/job.ts';
import { createTestEdge, jsonOf } from '../support/edge.ts';
import { doneOf, type FakeTransport } from '../support/fake-transport.ts';
import { storiesCard } from '../support/stories.ts';
import { jobOf, tokensOf } from '../support/transport-conformance.ts';

const path = '/v1/completions';
const body = { model: storiesCard.name, prompt: 'Once upon a time', max_tokens: 8 };
const never = new AbortController().signal;

/**
 * An app with requests in the queue that nobody takes, and the rate at which they would be
 * finished.
 */
async function openBusyEdge(numQueued: number, ratePerSecond: number) {
  const edge = createTestEdge(null);
  edge.transport.setRate(storiesCard, ratePerSecond);
  const jobs = Array.from({ length: numQueued }, () => jobOf());
  for (const job of jobs) await edge.transport.submit(job, never);
  return { ...edge, jobs };
}

function finish(transport: FakeTransport, { id }: Job): void {
  const epoch = transport.claim(id);
  transport.append(id, epoch, tokensOf(' there was', 'stop'));
  transport.append(id, epoch, doneOf({ promptTokens: 4, completionTokens: 2 }));
}

describe('admission', () => {
  it('answers 429 with the time to come back when the queue is full, streamed or not', async () => {
    const { post, transport } = await openBusyEdge(3, 0.25);
    transport.maxQueued = 2; // two must go: 8 s

    for (const stream of [false, true]) {
      const response = await post(path, { ...body, stream });
      expect(response.status).toBe(429);
      expect(response.headers.get('retry-after')).toBe('8');
      expect(await jsonOf(response)).toEqual({
        error: {
          message: '3 requests are waiting already',
          type: 'rate_limit_error',
          param: null,
          code: 'rate_limit_exceeded',
        },
      });
    }
    expect(transport.submitted).toHaveLength(3);
  });

  it('answers 429 at once to a timeout that would pass in the queue', async () => {
    const { post, transport } = await openBusyEdge(3, 0.25); // 12 s

    const response = await post(path, { ...body, timeout: 9.5 });

    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('3'); // 2.5, rounded up
    expect(await jsonOf(response)).toMatchObject({
      error: {
        code: 'deadline_exceeded',
        param: 'timeout',
        message: 'about 12 s would pass before this request begins; it may wait for 9.5 s',
      },
    });
    expect(transport.submitted).toHaveLength(3);
  });

  it.each([
    ['expires_in', { expires_in: 9.5 }, {}],
    ['body.timeout', {}, { timeout: 9.5 }],
  ])('names %s where a job would pass it in the queue', async (param, fields, inBody) => {
    const { post } = await openBusyEdge(3, 0.25);
    const job = { endpoint: path, body: { ...body, ...inBody }, ...fields };

    const response = await post('/v1/jobs', job);

    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('3');
    expect((await jsonOf(response)).error).toMatchObject({ code: 'deadline_exceeded', param });
  });

  it('takes a timeout that leaves time enough', async () => {
    const { post, transport, jobs } = await openBusyEdge(3, 0.25);
    const submitted = transport.nextSubmission();
    const answer = post(path, { ...body, timeout: 12 });

    for (const job of [...jobs, await submitted]) finish(transport, job);

    expect((await answer).status).toBe(200);
  });

  it('attaches a retry to the first request though the queue is full and its timeout too short', async () => {
    const { post, transport } = await openBusyEdge(1, 100);
    const keyed = { 'idempotency-key': 'a' };
    const submitted = transport.nextSubmission();
    const first = post(path, { ...body, timeout: 1 }, keyed);
    const job = await submitted;
    transport.maxQueued = 2;
    transport.setRate(storiesCard, 0.01);
    expect((await post(path, { ...body, timeout: 1 })).status).toBe(429);
    const second = post(path, { ...body, timeout: 1 }, keyed);
    finish(transport, job);

    expect(await (await second).text()).toBe(await (await first).text());
  });

  it('takes a refused request when it comes back with its key', async () => {
    const { post, transport, jobs } = await openBusyEdge(1, 1);
    transport.maxQueued = 1;
    const keyed = { 'idempotency-key': 'a' };
    expect((await post(path, body, keyed)).status).toBe(429);
    finish(transport, jobs[0]!);

    const submitted = transport.nextSubmission();
    const answer = post(path, body, keyed);
    finish(transport, await submitted);

    expect((await answer).status).toBe(200);
  });
});
