import { describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { jsonOf } from '../support/edge.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { tellStory } from '../support/storyteller.ts';

/** What a completion under `sinks` is queued as, or why it is refused. */
async function submit(fields: object, canSlide = true) {
  const transport = new FakeTransport(tellStory);
  transport.register({ ...storiesCard, canSlide }, storiesFiles);
  const app = createApp(() => transport, { log: () => {}, now: () => 1_700_000_000_000 });
  const response = await app.request('/v1/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'stories-target',
      prompt: 'Once',
      context_policy: 'sinks',
      ...fields,
    }),
  });
  return { response, job: transport.submitted[0] };
}

describe('context_policy: sinks', () => {
  it('keeps four sinks and the rest of the context, until it is cancelled', async () => {
    const { job } = await submit({ stream: true });
    expect(job?.contextPolicy).toEqual({ type: 'sinks', sinkTokens: 4, windowTokens: 508 });
    expect(job?.maxTokens).toBeNull();
    expect((await submit({ stream: true, max_tokens: null })).job?.maxTokens).toBeNull();
    expect((await submit({ max_tokens: 9 })).job?.maxTokens).toBe(9);
  });

  it('takes prompts and answers longer than the context', async () => {
    const { job } = await submit({ prompt: 'Once upon a time. '.repeat(300), max_tokens: 100_000 });
    expect(job?.prompts[0]?.length).toBeGreaterThan(512);
    expect(job?.maxTokens).toBe(100_000);
  });

  it.each([
    [{ sink_tokens: 65 }, 'sink_tokens', 'the limit is 64'],
    [{ window_tokens: 509 }, 'window_tokens', '513 together; the limit is 512'],
    [{ echo: true, logprobs: 1 }, 'echo', 'needs context_policy to be "stop"'],
    [{ prompt: Array(131_073).fill(5), max_tokens: 1 }, 'prompt', 'the limit is 131072'],
    [{}, 'max_tokens', 'max_tokens is missing; under sinks only a stream does without'],
    [{ timeout: 60 }, 'max_tokens', 'max_tokens is missing'],
    [{ max_tokens: 131_073 }, 'max_tokens', 'without stream the limit is 131072'],
    [{ background: true }, 'max_tokens', 'needs it or a timeout'],
  ])('refuses %j', async (fields, param, message) => {
    const { response } = await submit(fields);
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatchObject({
      param,
      message: expect.stringContaining(message),
    });
  });

  it.each([
    { background: true, timeout: 60 },
    { background: true, max_tokens: 1_000_000, stop: 'a' },
    { stream: true, max_tokens: 1_000_000, stop: 'a' },
  ])('takes %j, which ends or is seen', async (fields) => {
    expect((await submit(fields)).job).toBeDefined();
  });

  it('is refused where the model cannot', async () => {
    const { response } = await submit({}, false);
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatchObject({
      code: 'unsupported_parameter',
      param: 'context_policy',
    });
  });
});
