import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { createRequestId, type TokenId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { loadConfig } from '../../worker/config.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { startWorker, type WorkerProcess } from '../support/worker-process.ts';

const keys = new Keys();
const MODEL = 'stories-target';
/** What workers have by default, which is what those of this test have. */
const { lock, graceMs } = loadConfig({ REDIS_URL: 'redis://127.0.0.1', MODEL_DIR: MODEL });
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

/** One that is gone with `stack`. */
async function openWorker(stack: AsyncDisposableStack): Promise<WorkerProcess> {
  const worker = stack.use(startWorker({ REDIS_URL: redis.url }));
  await worker.ready;
  return worker;
}

const REQUESTS = Array.from({ length: 6 }, (_, i) => ({
  prompt: ['Once upon a time', 'Lily had a dog', 'The sun was hot'][i % 3],
  seed: i,
  n: 1 + (i % 2),
  max_tokens: 150,
  temperature: i % 3,
  logprobs: 1,
  ignore_eos: true,
}));

async function ask(request: object): Promise<unknown> {
  const app = createApp(() => transport, { log: () => undefined });
  const response = await app.request('/v1/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, ...request }),
  });
  expect(response.status).toBe(200);
  return z.object({ choices: z.unknown() }).parse(await response.json()).choices;
}

describe('a restart of all workers, one after the other, under load', () => {
  it('fails no request, changes no byte, and each ends with 0', async () => {
    await using stack = new AsyncDisposableStack();
    const workers = [await openWorker(stack), await openWorker(stack)];
    const expected = await Promise.all(REQUESTS.map(ask));
    let isOver = false;
    let numAnswered = 0;
    const clients = REQUESTS.map(async (request, i) => {
      while (!isOver) {
        expect(await ask(request)).toEqual(expected[i]);
        numAnswered += 1;
      }
    });
    for (const old of workers) {
      await openWorker(stack);
      const numBefore = numAnswered;
      const toldMs = performance.now();
      old.child.kill('SIGTERM');
      expect((await old.exited).status).toBe(0);
      expect(performance.now() - toldMs).toBeLessThan(graceMs);
      while (numAnswered < numBefore + REQUESTS.length) await Promise.race(clients.map(afterTurn));
    }
    isOver = true;
    await Promise.all(clients);
  });
});

/** Gives time to others, or fails with a client that failed. */
function afterTurn(client: Promise<void>): Promise<void> {
  return Promise.race([client, new Promise<void>((resolve) => setTimeout(resolve, 20))]);
}

describe('the death of a worker', () => {
  const NUM_DEATHS = 3;
  /** To read a window and what goes before it again, beside the start of another worker. */
  const PREFILL_MS = 2000;
  const limitMs = lock.lockMs + lock.stalledCheckMs + PREFILL_MS;

  /** One that goes on until it is cancelled. */
  async function endlessJob(): Promise<Job> {
    const model = (await transport.models()).find(({ card }) => card.name === MODEL);
    return jobOf({
      model: MODEL,
      fingerprint: model?.card.fingerprint ?? '',
      maxTokens: null,
      ignoreEos: true,
      contextPolicy: { type: 'sinks', sinkTokens: 4, windowTokens: 200 },
    });
  }

  async function holderOf({ id }: Job, workers: readonly WorkerProcess[]): Promise<WorkerProcess> {
    const [claim = ''] = await redis.client.lrange(keys.request(id).claims, -1, -1);
    const ids = await Promise.all(workers.map(({ ready }) => ready));
    const worker = workers[ids.findIndex((each) => JSON.parse(claim).worker.startsWith(each))];
    if (worker === undefined) throw new Error(`nobody has the request: ${claim}`);
    return worker;
  }

  /** The first tokens of a job, undisturbed. */
  async function firstTokens(job: Job, count: number): Promise<TokenId[]> {
    const tokenIds: TokenId[] = [];
    for await (const { event } of await transport.submit(job, AbortSignal.timeout(60_000))) {
      if (event.type === 'tokens') tokenIds.push(...event.tokenIds);
      if (tokenIds.length >= count) break;
    }
    await transport.cancel(job.id);
    return tokenIds.slice(0, count);
  }

  it('is a pause of less than five seconds, as it comes, and changes no token', async () => {
    await using stack = new AsyncDisposableStack();
    const workers = [await openWorker(stack), await openWorker(stack)];
    const job = await endlessJob();
    const reading = new AbortController();
    const events = (await transport.submit(job, reading.signal))[Symbol.asyncIterator]();
    const tokenIds: TokenId[] = [];
    const next = async () => {
      const { value } = await events.next();
      if (value?.event.type !== 'tokens') throw new Error(JSON.stringify(value));
      tokenIds.push(...value.event.tokenIds);
      return value.id;
    };
    const pausesMs: number[] = [];
    for (let death = 0; death < NUM_DEATHS; death += 1) {
      for (let i = 0; i < 20; i += 1) await next();
      const holder = await holderOf(job, workers);
      holder.child.kill('SIGKILL');
      await holder.exited;
      const deathMs = performance.now();
      const { state } = keys.request(job.id);
      const epoch = Number(await redis.client.hget(state, 'epoch'));
      while ((await next()).epoch <= epoch);
      pausesMs.push(performance.now() - deathMs);
      workers.splice(workers.indexOf(holder), 1, await openWorker(stack));
    }
    reading.abort();
    await transport.cancel(job.id);

    console.log(`pauses after a worker's death, ms: ${pausesMs.map(Math.round).join(', ')}`);
    expect(Math.max(...pausesMs), `${pausesMs}`).toBeLessThan(limitMs);
    expect(limitMs).toBeLessThanOrEqual(5000);
    const again = { ...job, id: createRequestId() };
    expect(tokenIds).toEqual(await firstTokens(again, tokenIds.length));
  });
});
