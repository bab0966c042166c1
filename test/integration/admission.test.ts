import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import type { ModelCard } from '../../shared/protocol/model-card.ts';
import { register } from '../../worker/queue/registry.ts';
import { jsonOf } from '../support/edge.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { jobOf } from '../support/transport-conformance.ts';
import { generate, openTestWorker } from '../support/workers.ts';

const keys = new Keys();
const { signal } = new AbortController();
const MAX_QUEUED = 3;
const path = '/v1/completions';
let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url, { maxQueued: MAX_QUEUED });
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

function queueOf({ name: model, fingerprint }: ModelCard) {
  return { model, fingerprint };
}

function registerWorker(
  card: ModelCard,
  workerId: string,
  ratePerSecond: number,
  fields: { readonly maxRunning?: number } = {},
) {
  const registration = { card, workerId, tokenizerFiles: storiesFiles, ...fields };
  return register(redis.client, redis.client, keys, {
    ...registration,
    ratePerSecond: () => ratePerSecond,
  });
}

function post(body: object, headers: Record<string, string> = {}) {
  const app = createApp(() => transport, { log: () => undefined });
  return app.request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ prompt: 'Once', max_tokens: 4, ...body }),
  });
}

function numWaiting(card: ModelCard): Promise<number> {
  return redis.client.zcard(keys.waitingJobs(queueOf(card)).prioritized);
}

describe('a queue whose worker has stopped to finish requests', () => {
  it('refuses what finds no room, attaches retries, and takes requests again once it moves', async () => {
    const card = { ...storiesCard, name: 'stuck' };
    const generator = new ScriptedGenerator('by-hand');
    const queue = queueOf(card);
    await using _worker = await openTestWorker(redis.url, generator, { queue, maxRunning: 2 });
    await using _registration = await registerWorker(card, 'worker', 0.3);
    const begun = [1, 2].map((seed) => post({ model: card.name, seed }));
    await generator.started(2);
    const waiting = [3, 4, 5].map((seed) =>
      post({ model: card.name, seed }, { 'idempotency-key': `${seed}` }),
    );
    await vi.waitFor(async () => expect(await numWaiting(card)).toBe(MAX_QUEUED));

    const refused = await post({ model: card.name });
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('4'); // 1 / 0.3, rounded up
    const retried = post({ model: card.name, seed: 4 }, { 'idempotency-key': '4' });

    for (let step = 0; step < 4; step += 1) generator.step(); // ends the first two
    await generator.started(4);
    const admitted = post({ model: card.name, seed: 6 });
    await vi.waitFor(async () => expect(await numWaiting(card)).toBe(2));
    const answers = Promise.all([...begun, ...waiting, retried, admitted]);
    const over = answers.then(() => true);
    while (!(await Promise.race([over, new Promise((resolve) => setImmediate(resolve))]))) {
      generator.step();
    }

    expect((await answers).map(({ status }) => status)).toEqual([
      200, 200, 200, 200, 200, 200, 200,
    ]);
    expect(generator.starts).toHaveLength(6);
    expect(await (await retried).text()).toBe(await (await waiting[1]!).text());
  });

  it('refuses a timeout that those before it would use up', async () => {
    const card = { ...storiesCard, name: 'slow' };
    await using _registration = await registerWorker(card, 'worker', 0.25);
    for (let i = 0; i < 2; i += 1) await transport.submit(jobOf(queueOf(card)), signal);

    const refused = await post({ model: card.name, timeout: 6.5 });
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('2'); // 8 - 6.5, rounded up
    expect(await refused.json()).toMatchObject({ error: { code: 'deadline_exceeded' } });
  });
});

describe('a queue whose workers say how many requests they take at a time', () => {
  it('counts those under way, but for the places that are free', async () => {
    const card = { ...storiesCard, name: 'placed' };
    const generator = new ScriptedGenerator('by-hand');
    const queue = queueOf(card);
    await using _worker = await openTestWorker(redis.url, generator, { queue, maxRunning: 2 });
    await using _registration = await registerWorker(card, 'worker', 0.25, { maxRunning: 2 });
    const hasTimeout = (seconds: number) => post({ model: card.name, timeout: seconds });

    const begun = [hasTimeout(3600)];
    await generator.started(1);
    begun.push(hasTimeout(0.9)); // there is a place for it
    await generator.started(2);
    const refused = await hasTimeout(3.5);
    expect(refused.status).toBe(429);
    expect((await jsonOf(refused)).error.message).toMatch(/^about 4 s would pass/); // 1 / 0.25
    begun.push(hasTimeout(4.5));
    await vi.waitFor(async () => expect(await numWaiting(card)).toBe(1));
    const later = await hasTimeout(7.5); // two have to end
    expect((await jsonOf(later)).error.message).toMatch(/^about 8 s would pass/);

    const answers = Promise.all(begun);
    const over = answers.then(() => true);
    while (!(await Promise.race([over, new Promise((resolve) => setImmediate(resolve))]))) {
      generator.step();
    }
    expect((await answers).map(({ status }) => status)).toEqual([200, 200, 200]);
  });
});

/** When a full queue says to come back. */
async function retryAfter(card: ModelCard): Promise<unknown> {
  const refused = await post({ model: card.name });
  expect(refused.status).toBe(429);
  return Number(refused.headers.get('retry-after'));
}

describe('the rate of a queue', () => {
  it('is that of all workers that live, the new ones taken for the mean', async () => {
    const card = { ...storiesCard, name: 'rated' };
    const rates = keys.rates(queueOf(card));
    for (let i = 0; i < MAX_QUEUED; i += 1) await transport.submit(jobOf(queueOf(card)), signal);
    await using _a = await registerWorker(card, 'a', 0.02);
    const b = await registerWorker(card, 'b', 0.03);
    const unmeasured = await registerWorker(card, 'new', 0);

    expect(await retryAfter(card)).toBe(14); // 1 / ((0.02 + 0.03) * 3 / 2)
    await unmeasured[Symbol.asyncDispose]();
    expect(await retryAfter(card)).toBe(20); // 1 / (0.02 + 0.03)
    await b[Symbol.asyncDispose]();
    await redis.client.hset(rates, 'dead', '1000 0.03'); // its heartbeat is overdue since 1970
    expect(await retryAfter(card)).toBe(50); // 1 / 0.02
    expect(await redis.client.hkeys(rates)).toEqual(['a']);
  });

  it('is measured by each worker, of what it finishes and not of what it gives back', async () => {
    const leaving = new ScriptedGenerator('by-hand');
    const first = await openTestWorker(redis.url, leaving);
    const job = jobOf({ model: 'scripted', fingerprint: 'fp' });
    const result = generate(transport, job);
    await leaving.started(1);
    expect(first.consumer.ratePerSecond).toBe(0);
    await first.stop();
    expect(first.consumer.ratePerSecond).toBe(0);

    await using heir = await openTestWorker(redis.url, new ScriptedGenerator());
    expect((await result).texts).toEqual([scriptedText(job)]);
    await vi.waitFor(() => expect(heir.consumer.ratePerSecond).toBeGreaterThan(0));

    const rate = heir.consumer.ratePerSecond;
    for (let retry = 0; retry < 15; retry += 1) await generate(transport, job);
    const { prioritized } = keys.waitingJobs(job);
    await vi.waitFor(async () => expect(await redis.client.zcard(prioritized)).toBe(0));
    expect(heir.consumer.ratePerSecond).toBe(rate);
  });
});
