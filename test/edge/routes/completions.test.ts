import { describe, expect, it } from 'vitest';
import { PlatformError } from '../../../shared/errors.ts';
import { createTestEdge, jsonOf, parseFrames } from '../../support/edge.ts';
import { tokensOf } from '../../support/transport-conformance.ts';

const story = { model: 'stories-target', prompt: 'Once', seed: 0, max_tokens: 4 };

describe('POST /v1/completions', () => {
  it('joins the tokens into one completion', async () => {
    const { post, transport } = createTestEdge();

    const response = await post('/v1/completions', story);

    expect(response.status).toBe(200);
    const [job] = transport.submitted;
    expect(response.headers.get('x-request-id')).toBe(job?.id);
    expect(response.headers.get('x-seed')).toBe('0');
    expect(await response.json()).toEqual({
      id: job?.id,
      object: 'text_completion',
      created: 1_700_000_000,
      model: 'stories-target',
      system_fingerprint: 'fp-stories',
      seed: 0,
      choices: [{ index: 0, text: ' One day, a', logprobs: null, finish_reason: 'length' }],
      usage: {
        prompt_tokens: 2,
        completion_tokens: 4,
        total_tokens: 6,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
      },
    });
  });

  it('queues the prompt as tokens, with the defaults of the model and of OpenAI', async () => {
    const { post, transport } = createTestEdge(undefined, { drawSeed: () => 77 });

    await post('/v1/completions', { model: 'stories-target', prompt: 'Once' });

    expect(transport.submitted[0]).toMatchObject({
      version: 1,
      tenant: 'default',
      endpoint: 'completions',
      model: 'stories-target',
      fingerprint: 'fp-stories',
      createdMs: 1_700_000_000_000,
      deadlineMs: null,
      prompts: [[0, 416]],
      n: 1,
      sampling: { temperature: 0.8, topP: 0.95, topK: 0, minP: 0, seed: 77 },
      maxTokens: 16,
      stop: [],
      topLogprobs: null,
      onDisconnect: 'cancel',
      contextPolicy: { type: 'stop' },
    });
  });

  it('streams the same text, one frame per event, each with its id', async () => {
    const { post } = createTestEdge();

    const response = await post('/v1/completions', { ...story, stream: true });

    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('x-seed')).toBe('0');
    const frames = parseFrames(await response.text());
    expect(frames.map(({ id }) => id)).toEqual(['1-0', '1-1', '1-2', '1-3', '1-4']);
    expect(frames.at(-1)?.data).toBe('[DONE]');
    const choices = frames.slice(0, -1).map(({ data }) => data.choices[0]);
    expect(choices.map(({ text }) => text).join('')).toBe(' One day, a');
    expect(choices.map((choice) => choice.finish_reason)).toEqual([null, null, null, 'length']);
    expect(frames[0]?.data).toMatchObject({ object: 'text_completion', seed: 0 });
    expect(frames[0]?.data).not.toHaveProperty('usage');
  });

  it('adds a usage chunk when asked to, with the id of the last event', async () => {
    const { post } = createTestEdge();
    const body = { ...story, stream: true, stream_options: { include_usage: true } };

    const frames = parseFrames(await (await post('/v1/completions', body)).text());

    expect(frames.slice(0, 4).map(({ data }) => data.usage)).toEqual([null, null, null, null]);
    expect(frames[4]).toMatchObject({
      id: '1-4',
      data: { choices: [], usage: { total_tokens: 6 } },
    });
    expect(frames[5]).toEqual({ id: '1-4', data: '[DONE]' });
  });

  it('answers n choices of every prompt, in the order of prompts', async () => {
    const { post, transport } = createTestEdge();
    const body = {
      ...story,
      prompt: [
        [0, 416],
        [0, 5, 6],
      ],
      n: 2,
    };

    const { choices, usage } = await jsonOf(await post('/v1/completions', body));

    expect(transport.submitted[0]?.prompts).toEqual([
      [0, 416],
      [0, 5, 6],
    ]);
    expect(choices.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2, 3]);
    expect(usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 16 });
  });

  it('reports log-probabilities with offsets into the text, echo included', async () => {
    const { post } = createTestEdge();
    const body = { ...story, prompt: 'Once', echo: true, logprobs: 2, max_tokens: 2 };

    const { choices } = await jsonOf(await post('/v1/completions', body));

    expect(choices[0].text).toBe('Once One day');
    expect(choices[0].logprobs.tokens).toEqual(['<|endoftext|>', 'Once', ' One', ' day']);
    expect(choices[0].logprobs.text_offset).toEqual([0, 0, 4, 8]);
    expect(choices[0].logprobs.token_logprobs).toHaveLength(4);
    expect(Object.keys(choices[0].logprobs.top_logprobs[3])[0]).toBe(' day');
  });

  it('names fields it does not know and goes on', async () => {
    const { post } = createTestEdge();

    const response = await post('/v1/completions', { ...story, gravity: 9.8, 'ü,': 1, user: 'x' });

    expect(response.status).toBe(200);
    expect(response.headers.get('x-ignored-parameters')).toBe('gravity, %C3%BC%2C');
  });

  it('turns an error before the first token into its status', async () => {
    const { post } = createTestEdge((_, append) =>
      append({ type: 'error', code: 'overloaded', message: 'queue is full', param: null }),
    );

    for (const stream of [false, true]) {
      const response = await post('/v1/completions', { ...story, stream });
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBe('2');
      expect(await response.json()).toEqual({
        error: { message: 'queue is full', type: 'server_error', param: null, code: 'overloaded' },
      });
    }
  });

  it('ends a stream with an error frame when it fails later', async () => {
    const { post } = createTestEdge((_, append) => {
      append({
        type: 'tokens',
        choice: 0,
        tokenIds: [5],
        text: 'Hi',
        logprobs: null,
        finishReason: null,
      });
      append({ type: 'error', code: 'worker_lost', message: 'gone', param: null });
    });

    const response = await post('/v1/completions', { ...story, stream: true });

    const frames = parseFrames(await response.text());
    expect(response.status).toBe(200);
    expect(frames.map(({ id }) => id)).toEqual(['1-0', '1-1']);
    expect(frames[1]?.data).toMatchObject({ error: { code: 'worker_lost', message: 'gone' } });
  });

  it('begins a stream with heartbeats when the queue is slow, and then cannot change its status', async () => {
    const { post, transport } = createTestEdge(null, { heartbeatMs: 1 });

    const response = await post('/v1/completions', { ...story, stream: true });
    const reader = response.body!.getReader();
    const read = async () => new TextDecoder().decode((await reader.read()).value);
    const first = await read();
    const [job] = transport.submitted;
    const error = { type: 'error', code: 'overloaded', message: 'full', param: null } as const;
    transport.append(job!.id, transport.claim(job!.id), error);

    expect(response.status).toBe(200);
    expect(response.headers.get('x-request-id')).toBe(job?.id);
    expect(first).toBe(': heartbeat\n\n');
    let last = await read();
    while (last === first) last = await read();
    expect(parseFrames(last)).toMatchObject([
      { id: '1-0', data: { error: { code: 'overloaded' } } },
    ]);
  });

  it('tells a reader, without an id to go on after, when the events cannot be read any longer', async () => {
    const { app, transport } = createTestEdge(null);
    transport.submit = async (job) => ({
      job,
      async *[Symbol.asyncIterator]() {
        yield { id: { epoch: 1, seq: 0 }, event: tokensOf('Hi') };
        throw new PlatformError('unavailable', 'redis does not answer');
      },
    });

    const response = await app.request('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...story, stream: true }),
    });

    expect(parseFrames(await response.text())).toMatchObject([
      { id: '1-0' },
      { id: null, data: { error: { code: 'unavailable' } } },
    ]);
  });
});
