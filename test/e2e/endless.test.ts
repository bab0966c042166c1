import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { tokensToResume } from '../../shared/protocol/endless.ts';
import { type Frame, jsonOf, parseFrames } from '../support/edge.ts';
import type { Service } from '../support/openai-conformance.ts';
import { openStack } from '../support/stack.ts';

const model = 'stories-target';
const policy = { context_policy: 'sinks', sink_tokens: 4, window_tokens: 28 };
/** Output tokens that stay in the log, however old: eight windows and the last. */
const numKept = tokensToResume({ type: 'sinks', sinkTokens: 4, windowTokens: 28 });
let stack: Service;

beforeAll(async () => {
  stack = await openStack({
    MAX_SEQUENCES: '1',
    MAX_BATCHED_TOKENS: '64',
    QUANTUM_TOKENS: '64',
    LOG_RETENTION_MS: '4000', // cut by a twentieth of it at a time
  });
});
afterAll(() => stack[Symbol.asyncDispose]());

function call(path: string, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(stack.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function statusOf(id: string): Promise<string> {
  return (await jsonOf(await fetch(`${stack.url}/v1/requests/${id}`))).status;
}

/** A stream as it comes. */
class Stream {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = '';

  constructor(response: Response) {
    this.#reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Whole frames so far. */
  get frames(): readonly Frame[] {
    return parseFrames(this.#text.slice(0, this.#text.lastIndexOf('\n\n') + 2));
  }

  /** Reads on until that is so. @returns `false` where it ended before */
  async readUntil(isEnough: () => boolean): Promise<boolean> {
    while (!isEnough()) {
      const { done, value } = await this.#reader.read();
      if (done) return false;
      this.#text += value;
    }
    return true;
  }

  cancel(): Promise<void> {
    return this.#reader.cancel();
  }
}

/** The first frame of what a reader is given who asks for what follows an event. */
async function firstFrameAfter(id: string, eventId: string | null): Promise<Frame> {
  const headers = eventId === null ? {} : { 'last-event-id': eventId };
  const stream = new Stream(await fetch(`${stack.url}/v1/requests/${id}/events`, { headers }));
  await stream.readUntil(() => stream.frames.length > 0);
  await stream.cancel();
  return stream.frames[0]!;
}

/** Reads from where a refusal says that it can be, which may be gone by then, too. */
async function readOn(id: string, refusal: Frame['data']): Promise<Frame['data']> {
  let data = refusal;
  while (data.error !== undefined) {
    const [, oldest] = /Last-Event-ID (\d+-\d+) /.exec(data.error.message) ?? [];
    if (oldest === undefined) throw new Error(data.error.message);
    data = (await firstFrameAfter(id, oldest)).data;
  }
  return data;
}

function textOf(frames: readonly Frame[]): string {
  return frames.map(({ data }) => data.choices?.[0]?.text ?? '').join('');
}

describe('a request without a limit', () => {
  it('goes on past its windows, lets others in, forgets its begin, and ends with a cancel', async () => {
    const short = { model, prompt: 'Once upon a time', seed: 2, max_tokens: 16, temperature: 0 };
    const alone = await jsonOf(await call('/v1/completions', short));
    const asked = { ...short, ...policy, max_tokens: null, ignore_eos: true };
    const response = await call('/v1/completions', {
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    });
    const id = response.headers.get('x-request-id') ?? '';
    const stream = new Stream(response);
    await stream.readUntil(() => textOf(stream.frames) !== '');
    const [begin] = stream.frames;

    // There is one row, which the other one is in.
    const beside = await jsonOf(await call('/v1/completions', short));
    expect(beside.choices).toEqual(alone.choices);
    expect(['queued', 'running']).toContain(await statusOf(id));

    await stream.readUntil(() => textOf(stream.frames).length > 12 * numKept);
    await vi.waitFor(
      async () => expect((await firstFrameAfter(id, begin!.id)).data.error).toBeDefined(),
      { timeout: 20_000, interval: 300 },
    );
    for (const eventId of [null, begin!.id]) {
      const { data } = await firstFrameAfter(id, eventId);
      expect(data.error).toMatchObject({ code: 'events_trimmed' });
      expect((await readOn(id, data)).choices).toHaveLength(1);
    }

    expect((await call(`/v1/requests/${id}/cancel`, {})).status).toBe(200);
    expect(await stream.readUntil(() => false)).toBe(false);
    const frames = [...stream.frames];
    expect(frames.pop()?.data).toBe('[DONE]');
    const usage = frames.pop()?.data.usage;
    expect(frames.at(-1)?.data.choices[0].finish_reason).toBe('cancelled');
    expect(usage.completion_tokens).toBeGreaterThan(2 * numKept);
    expect(await statusOf(id)).toBe('cancelled');
  });
});
