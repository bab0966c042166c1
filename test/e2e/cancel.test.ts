import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonOf, parseFrames } from '../support/edge.ts';
import type { Service } from '../support/openai-conformance.ts';
import { openStack } from '../support/stack.ts';

const path = '/v1/completions';
const model = 'stories-target';
let stack: Service;

beforeAll(async () => {
  stack = await openStack({ MAX_SEQUENCES: '1', MAX_BATCHED_TOKENS: '64' });
});
afterAll(() => stack[Symbol.asyncDispose]());

function call(path: string, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(stack.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function statusOf(id: string): Promise<string> {
  return (await jsonOf(await fetch(`${stack.url}/v1/requests/${id}`))).status;
}

/** Work for minutes, on the only row. @returns its stream, which has begun */
async function openLong(fields: object) {
  const response = await call(path, {
    model,
    seed: 1,
    ignore_eos: true,
    logprobs: 0,
    stream: true,
    stream_options: { include_usage: true },
    ...fields,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value ?? '';
  const rest = async () => {
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
    const chunks = parseFrames(text).map(({ data }) => data);
    expect(chunks.pop()).toBe('[DONE]');
    const choices = chunks.flatMap((chunk) => chunk.choices);
    return {
      numTokens: choices.flatMap(({ logprobs }) => logprobs?.tokens ?? []).length,
      finishReasons: choices.map(({ finish_reason }) => finish_reason).filter((reason) => reason),
      usage: chunks.findLast(({ usage }) => usage).usage,
    };
  };
  return { id: response.headers.get('x-request-id') ?? '', rest };
}

const short = { model, prompt: 'Once upon a time', seed: 2, max_tokens: 16 };

describe('an early end through all processes', () => {
  // First, as long as nothing is measured: later on it would be refused at once.
  it('by its deadline ends a request in the queue, while the other goes on', async () => {
    const long = await openLong({ prompt: 'Once', n: 100, max_tokens: 500 });
    const queued = await call(path, { ...short, stream: true, timeout: 0.05 });
    const chunks = parseFrames(await queued.text()).map(({ data }) => data);

    expect(chunks.at(-2).choices[0]).toMatchObject({ text: '', finish_reason: 'length' });
    expect(await statusOf(long.id)).toBe('running');
    await call(`/v1/requests/${long.id}/cancel`, {});
    await long.rest();
  });

  it.each([
    ['by a cancel in decode, drafts included,', { prompt: 'Once', n: 100, max_tokens: 500 }],
    ['by a cancel in prefill', { prompt: Array(100).fill(Array(500).fill(20)), max_tokens: 1 }],
  ])('%s reports what the client was given, and lets the next one in', async (_, fields) => {
    const alone = await jsonOf(await call(path, short));
    const long = await openLong(fields);
    const next = call(path, short);

    expect((await call(`/v1/requests/${long.id}/cancel`, {})).status).toBe(200);

    const { numTokens, finishReasons, usage } = await long.rest();
    expect(finishReasons).toHaveLength(100);
    expect(finishReasons.at(-1)).toBe('cancelled');
    expect(usage.completion_tokens).toBe(numTokens);
    expect(await statusOf(long.id)).toBe('cancelled');
    expect((await jsonOf(await next)).choices).toEqual(alone.choices);
  });
});
