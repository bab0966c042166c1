import { describe, expect, it } from 'vitest';
import { createTestEdge, jsonOf, parseFrames } from '../../support/edge.ts';
import { storiesCard, storiesFiles } from '../../support/stories.ts';

const messages = [{ role: 'user', content: 'a dog' }];
const chat = { model: 'stories-target', messages, seed: 0, max_tokens: 3 };

describe('POST /v1/chat/completions', () => {
  it('renders the conversation with the template of the model and answers in one message', async () => {
    const { post, transport } = createTestEdge();

    const response = await post('/v1/chat/completions', chat);

    // <|endoftext|><|user|>a dog<|assistant|>: the template writes the begin token, the tokenizer
    // adds none.
    expect(transport.submitted[0]?.prompts).toEqual([[0, 1, 67, 525, 2]]);
    expect(response.status).toBe(200);
    expect(await jsonOf(response)).toMatchObject({
      id: transport.submitted[0]?.id,
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: ' One day,', refusal: null },
          logprobs: null,
          finish_reason: 'length',
        },
      ],
      usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
    });
  });

  it('is refused where the template of the model cannot be read, which completions do without', async () => {
    const { post, transport } = createTestEdge();
    const tokenizerConfigJson = JSON.stringify({ chat_template: '{% for %}' });
    const card = { ...storiesCard, name: 'broken', tokenizerDigest: 'broken-digest' };
    transport.register(card, { ...storiesFiles, tokenizerConfigJson });

    const response = await post('/v1/chat/completions', { ...chat, model: 'broken' });

    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatchObject({
      param: 'model',
      message: expect.stringMatching(/^broken has a chat template that cannot be read \(.+\); use/),
    });
    const plain = { model: 'broken', prompt: 'a dog', max_tokens: 3 };
    expect((await post('/v1/completions', plain)).status).toBe(200);
  });

  it('opens a stream with a role for each choice, under ids before all events', async () => {
    const { post } = createTestEdge();

    const response = await post('/v1/chat/completions', { ...chat, n: 2, stream: true });

    const frames = parseFrames(await response.text());
    expect(frames.slice(0, 3).map(({ id }) => id)).toEqual(['0-0', '0-1', '1-0']);
    expect(frames.slice(0, 2).map(({ data }) => data.choices[0])).toMatchObject([
      { index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null },
      { index: 1, delta: { role: 'assistant', content: '' }, finish_reason: null },
    ]);
    const text = frames
      .slice(2, -1)
      .filter(({ data }) => data.choices[0].index === 0)
      .map(({ data }) => data.choices[0].delta.content);
    expect(text.join('')).toBe(' One day,');
    expect(frames.at(-1)).toEqual({ id: '1-6', data: '[DONE]' });
  });

  it('has no limit of tokens unless one is given, under either name', async () => {
    const { post, transport } = createTestEdge((_, append) =>
      append({ type: 'error', code: 'internal', message: 'enough', param: null }),
    );
    const plain = { model: 'stories-target', messages };

    await post('/v1/chat/completions', plain);
    await post('/v1/chat/completions', { ...plain, max_tokens: 5 });
    await post('/v1/chat/completions', { ...plain, max_completion_tokens: 6 });

    expect(transport.submitted.map(({ maxTokens }) => maxTokens)).toEqual([null, 5, 6]);
  });

  it('joins text parts and encodes the prediction', async () => {
    const { post, transport } = createTestEdge();
    const parts = ['a', 'dog'].map((text) => ({ type: 'text', text }));
    const prediction = { type: 'content', content: [{ type: 'text', text: ' One day' }] };
    const body = { ...chat, messages: [{ role: 'user', content: parts }], prediction };

    await post('/v1/chat/completions', body);

    expect(transport.submitted[0]?.prompts).toEqual([[0, 1, 67, 201, 70, 1920, 2]]);
    expect(transport.submitted[0]?.prediction).toEqual([475, 343]);
  });

  it('reports log-probabilities, as many alternatives as asked for', async () => {
    const { post } = createTestEdge();

    const response = await post('/v1/chat/completions', {
      ...chat,
      logprobs: true,
      top_logprobs: 2,
    });

    const { choices } = await jsonOf(response);
    expect(choices[0].logprobs.content).toHaveLength(3);
    expect(choices[0].logprobs.content[0]).toMatchObject({
      token: ' One',
      bytes: [32, 79, 110, 101],
      top_logprobs: [{ token: ' One' }, {}],
    });
    expect(choices[0].logprobs.content[0].top_logprobs).toHaveLength(2);
  });

  it('refuses a model that was not trained for chat', async () => {
    const { post, transport } = createTestEdge();
    const files = { ...storiesFiles, tokenizerConfigJson: '{}' };
    transport.register({ ...storiesCard, name: 'plain', tokenizerDigest: 'plain-digest' }, files);

    const response = await post('/v1/chat/completions', { ...chat, model: 'plain' });

    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({
      error: { param: 'model', message: 'plain has no chat template; use /v1/completions' },
    });
  });
});
