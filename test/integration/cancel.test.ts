import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { type RequestId, toRequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { register } from '../../worker/queue/registry.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { parseFrames } from '../support/edge.ts';
import { createSpeculator, type ModelPair, openStoriesPair } from '../support/model-pair.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { SteppedEngine } from '../support/stepped-engine.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { openTestWorker, type TestWorker } from '../support/workers.ts';

const keys = new Keys();
const queue = { model: storiesCard.name, fingerprint: storiesCard.fingerprint };
const directory = temporaryDirectory();
let redis: TestRedis;
let transport: RedisTransport;
let pair: ModelPair;
let engine: SteppedEngine;
let worker: TestWorker;
let onDraftCall: () => Promise<void>;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
  pair = await openStoriesPair(directory);
  const registration = { card: storiesCard, tokenizerFiles: storiesFiles, workerId: 'worker' };
  await register(redis.client, redis.client, keys, { ...registration, ratePerSecond: () => 0 });
  engine = new SteppedEngine({
    ...pair.target,
    limits: { maxSequences: 1, maxBatchedTokens: 96 },
    prefixCacheBytes: 0,
    speculator: createSpeculator(watched(pair.draft), {
      proposer: 'draft',
      numDraftTokens: 4,
      maxSequences: 1,
      outputs: null,
    }),
  });
  // One request more than the engine has rows: the second one waits inside.
  worker = await openTestWorker(redis.url, engine, { queue, maxRunning: 2 });
});
afterAll(async () => {
  await worker.stop();
  await pair[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

function watched(draft: ModelRunner): ModelRunner {
  return {
    shape: draft.shape,
    async run(input) {
      await onDraftCall();
      return draft.run(input);
    },
    close: () => draft.close(),
  };
}

function call(path: string, body: object): Promise<Response> {
  const app = createApp(() => transport, { log: () => undefined });
  const headers = { 'content-type': 'application/json' };
  return Promise.resolve(
    app.request(path, { method: 'POST', headers, body: JSON.stringify(body) }),
  );
}

interface Answer {
  readonly text: string;
  readonly numTokens: number;
  readonly finishReason: string;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

const plain = { prompt: 'Once upon a time', max_tokens: 24, speculation: 'off' };

/** Asks for a stream. @returns all of it, folded */
async function ask(body: object): Promise<Answer> {
  const response = await call('/v1/completions', {
    model: storiesCard.name,
    seed: 1,
    ignore_eos: true,
    logprobs: 0,
    stream: true,
    stream_options: { include_usage: true },
    ...body,
  });
  expect(response.status).toBe(200);
  const chunks = parseFrames(await response.text()).map(({ data }) => data);
  expect(chunks.pop()).toBe('[DONE]');
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    text: choices.map(({ text }) => text).join(''),
    numTokens: choices.flatMap(({ logprobs }) => logprobs?.tokens ?? []).length,
    finishReason: choices.findLast(({ finish_reason }) => finish_reason).finish_reason,
    usage: chunks.findLast(({ usage }) => usage).usage,
  };
}

async function cancel(id: RequestId): Promise<void> {
  const response = await call(`/v1/requests/${id}/cancel`, {});
  expect(response.status).toBe(200);
}

/** Two requests in the engine, the second of which waits for the row of the first. */
async function openBoth(first: object, second: object) {
  onDraftCall = () => Promise.resolve();
  engine.started.length = 0;
  const answers = [ask(first)];
  await vi.waitFor(() => expect(engine.started).toHaveLength(1));
  answers.push(ask(second));
  await vi.waitFor(() => expect(engine.started).toHaveLength(2));
  const [firstId, secondId] = engine.started;
  return { firstId: firstId!, secondId: secondId!, first: answers[0]!, second: answers[1]! };
}

/**
 * Cancels and waits until the engine was told, which does nothing about it before its next step.
 */
async function tell(id: RequestId): Promise<void> {
  await cancel(id);
  await vi.waitFor(() => expect(engine.cancelled).toContain(id));
}

/** Of a request that nobody disturbs. */
async function undisturbed(body: object): Promise<Answer> {
  onDraftCall = () => Promise.resolve();
  return engine.stepUntil(ask(body));
}

describe('a cancel', () => {
  it('of a request in the queue keeps it from the worker, and says that nothing was generated', async () => {
    const { first, second } = await openBoth(plain, plain);
    const third = ask({ ...plain, prompt: 'never read' });
    const { prioritized } = keys.waitingJobs(queue);
    await vi.waitFor(async () => expect(await redis.client.zcard(prioritized)).toBe(1));
    const [id = ''] = await redis.client.zrange(prioritized, '0', '0');
    await cancel(toRequestId(id));

    expect(await third).toMatchObject({
      text: '',
      finishReason: 'cancelled',
      usage: { completion_tokens: 0 },
    });
    await engine.stepUntil(Promise.all([first, second]));
    expect(engine.started).not.toContain(id);
  });

  it('of a request that waits for a row costs no call of the model', async () => {
    const { first, second, secondId } = await openBoth(plain, { ...plain, prompt: 'never read' });
    await engine.step();
    expect(engine.numWaiting).toBe(1);
    await tell(secondId);
    await engine.step();

    expect(engine.numWaiting).toBe(0);
    expect(await second).toMatchObject({
      finishReason: 'cancelled',
      usage: { completion_tokens: 0 },
    });
    expect((await engine.stepUntil(first)).numTokens).toBe(24);
  });

  it('in the prefill of a long prompt ends it before the next call, and the next has its row', async () => {
    const long = { ...plain, prompt: pair.prompts.flat().slice(0, 400) };
    const expected = await undisturbed(plain);
    const { first, firstId, second } = await openBoth(long, plain);
    for (let step = 0; step < 3; step += 1) await engine.step(); // 192 of 400 tokens
    await tell(firstId);
    const numCalls = engine.numCalls;
    await engine.step();

    expect(engine.numCalls).toBe(numCalls + 1); // of the next request
    expect([engine.numRunning, engine.numWaiting]).toEqual([1, 0]);
    expect(await first).toMatchObject({
      text: '',
      numTokens: 0,
      finishReason: 'cancelled',
      usage: { prompt_tokens: 400, completion_tokens: 0 },
    });
    expect(await engine.stepUntil(second)).toEqual(expected);
  });

  it('in decode leaves the tokens that were generated, and counts no others', async () => {
    const expected = await undisturbed(plain);
    const { first, firstId, second } = await openBoth(plain, plain);
    for (let step = 0; step < 7; step += 1) await engine.step(); // the first one reads the prompt
    await tell(firstId);
    await engine.step();

    expect([engine.numRunning, engine.numWaiting]).toEqual([1, 0]);
    const answer = await first;
    expect(answer).toMatchObject({
      numTokens: 7,
      finishReason: 'cancelled',
      usage: { completion_tokens: 7 },
    });
    expect(answer.text).not.toBe('');
    expect(expected.text.startsWith(answer.text)).toBe(true);
    expect(await engine.stepUntil(second)).toEqual(expected);
  });

  it('in the middle of a draft lets the step end, and counts what it gave', async () => {
    const drafted = { ...plain, speculation: 'auto' };
    const expected = await undisturbed(plain);
    const { first, firstId, second } = await openBoth(drafted, plain);
    for (let step = 0; step < 3; step += 1) await engine.step();
    let numDraftCalls = 0;
    onDraftCall = async () => {
      numDraftCalls += 1;
      if (numDraftCalls === 2) await tell(firstId); // of the four of this step
    };
    const numCalls = engine.numCalls;
    await engine.step();
    expect([numDraftCalls, engine.numCalls]).toEqual([4, numCalls + 1]);
    expect(engine.numWaiting).toBe(1);
    await engine.step();

    expect([numDraftCalls, engine.numRunning, engine.numWaiting]).toEqual([4, 1, 0]);
    const { text, numTokens, finishReason, usage } = await first;
    expect(finishReason).toBe('cancelled');
    expect(numTokens).toBeGreaterThanOrEqual(4); // each of the four steps gave one or more
    expect(usage.completion_tokens).toBe(numTokens);
    expect(expected.text.startsWith(text)).toBe(true);
    expect(await engine.stepUntil(second)).toEqual(expected);
  });
});
