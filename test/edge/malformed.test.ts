import { afterEach, describe, expect, it } from 'vitest';
import { createTestEdge, jsonOf } from '../support/edge.ts';
import {
  CHAT,
  COMPLETIONS,
  chatCases,
  completionCases,
  neutral,
  unsupportedCases,
  user,
} from '../support/malformed-requests.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

describe('a malformed request', () => {
  const { app, post, transport } = createTestEdge(undefined, { maxBodyBytes: 2_000_000 });
  const completion = { model: 'stories-target', prompt: 'Once' };
  const chat = { model: 'stories-target', ...user('hi') };

  afterEach(() => expect(transport.submitted).toEqual([]));

  async function expectError(response: Response, status: number, error: object) {
    const body = await jsonOf(response);
    expect(body).toEqual({
      error: {
        message: expect.any(String),
        type: expect.any(String),
        param: body.error.param,
        code: expect.any(String),
      },
    });
    expect(body.error).toMatchObject(error);
    expect(response.status).toBe(status);
    expect(response.headers.get('x-request-id')).toMatch(/^req-/);
    return body.error;
  }

  it.each(completionCases)('completion with %o', async (fields, param, message) => {
    const response = await post(COMPLETIONS, { ...completion, ...fields });
    await expectError(response, 400, { param, message: expect.stringContaining(message) });
  });

  it.each(chatCases)('chat with %o', async (fields, param, message) => {
    const response = await post(CHAT, { ...chat, ...fields });
    await expectError(response, 400, { param, message: expect.stringContaining(message) });
  });

  it.each(unsupportedCases)('%s with unsupported %o', async (path, fields, param) => {
    const base = path === CHAT ? chat : completion;
    const response = await post(path, { ...base, ...fields });
    await expectError(response, 400, { code: 'unsupported_parameter', param });
  });

  it.each([
    ['', 'not valid JSON'],
    ['{"model": "stories-target", "prompt": "On', 'not valid JSON'],
    ['{"model": "stories-target", "prompt": "Once", "temperature": NaN}', 'not valid JSON'],
    ['[]', 'must be a JSON object'],
    ['"x"', 'must be a JSON object'],
    ['null', 'must be a JSON object'],
    ['['.repeat(1_000_000), 'not valid JSON'],
  ])('body %.60s', async (body, message) => {
    const error = { message: expect.stringContaining(message), code: 'invalid_request' };
    await expectError(await post(COMPLETIONS, body), 400, error);
  });

  it.each([{}, { 'idempotency-key': 'a' }])('one nested without end, with %o', async (headers) => {
    const nested = '['.repeat(100_000) + ']'.repeat(100_000);
    const body = `{"model": "stories-target", "prompt": "Once", "flavor": ${nested}}`;
    const message = 'the body is nested deeper than 100 arrays or objects';
    await expectError(await post(COMPLETIONS, body, headers), 400, { message });
  });

  it('a number too large for a double', async () => {
    const body = '{"model": "stories-target", "prompt": "Once", "temperature": 1e999}';
    await expectError(await post(COMPLETIONS, body), 400, { param: 'temperature' });
  });

  it('broken UTF-8', async () => {
    const response = await app.request(COMPLETIONS, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: Uint8Array.of(0x22, 0xff, 0x22),
    });
    await expectError(response, 400, { message: 'the body is not valid UTF-8' });
  });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=latin1'])(
    'content type %s',
    async (type) => {
      const response = await post(COMPLETIONS, completion, { 'content-type': type });
      await expectError(response, 415, {
        code: 'unsupported_media_type',
        message: `content-type is "${type}"; it must be application/json`,
      });
    },
  );

  it('a compressed body', async () => {
    const response = await post(COMPLETIONS, completion, { 'content-encoding': 'gzip' });
    await expectError(response, 415, { code: 'unsupported_media_type' });
  });

  it('an over-long body, announced or not', async () => {
    const long = { ...completion, prompt: 'x'.repeat(2_000_001) };
    const announced = { 'content-length': '2000001' };
    for (const response of [
      await post(COMPLETIONS, long),
      await post(COMPLETIONS, completion, announced),
    ]) {
      const message = expect.stringContaining('the limit is 2000000 bytes');
      await expectError(response, 413, { code: 'payload_too_large', message });
    }
  });

  it('an unknown model', async () => {
    for (const model of ['gpt-4', 'ü', '__proto__', 'x'.repeat(256)]) {
      const response = await post(COMPLETIONS, { ...completion, model });
      await expectError(response, 404, { code: 'model_not_found', param: 'model' });
    }
  });

  it('a method that the path does not know', async () => {
    const response = await app.request(COMPLETIONS);
    await expectError(response, 405, { message: 'GET is not allowed here; use POST' });
    expect(response.headers.get('allow')).toBe('POST');
    await expectError(await app.request('/v1/models', { method: 'DELETE' }), 405, {});
    await expectError(await app.request('/healthz', { method: 'POST' }), 405, {});
  });

  it('a path that does not exist', async () => {
    await expectError(await post('/v1/complete', completion), 404, { code: 'not_found' });
    await expectError(await app.request('/'), 404, { message: 'no such route: GET /' });
  });

  it('an empty prompt where the tokenizer adds no begin token', async () => {
    const tokenizerJson = storiesFiles.tokenizerJson.replace(
      /"post_processor": \{[\s\S]*?\n \},/,
      '"post_processor": null,',
    );
    const card = { ...storiesCard, name: 'bare', tokenizerDigest: 'bare-digest' };
    transport.register(card, { ...storiesFiles, tokenizerJson });

    const response = await post(COMPLETIONS, { model: 'bare', prompt: '' });
    await expectError(response, 400, {
      param: 'prompt',
      message: 'prompt is empty, and bare has no token to begin with',
    });
  });

  it.each([
    [COMPLETIONS, { prompt: 'a <|image|>' }, 'prompt'],
    [COMPLETIONS, { prompt: ['a', '<|image|>'] }, 'prompt[1]'],
    [CHAT, user('<|image|>'), 'messages'],
    [CHAT, { ...user('a'), prediction: { type: 'content', content: '<|image|>' } }, 'prediction'],
  ])('text with a token that the model does not have: %s %j', async (path, fields, param) => {
    const tokenizerJson = storiesFiles.tokenizerJson.replace(
      '"added_tokens": [',
      `"added_tokens": [{"id": 2048, "content": "<|image|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true},`,
    );
    const card = { ...storiesCard, name: 'tuned', tokenizerDigest: 'tuned-digest' };
    transport.register(card, { ...storiesFiles, tokenizerJson });

    const response = await post(path, { model: 'tuned', ...fields });
    const message = `${param} holds token 2048; the vocabulary of tuned ends at 2047`;
    await expectError(response, 400, { param, message });
  });

  it('one for a model that no worker serves at the moment', async () => {
    transport.register({ ...storiesCard, name: 'asleep' }, storiesFiles, 0);
    const response = await post(COMPLETIONS, { ...completion, model: 'asleep' });
    await expectError(response, 503, { code: 'no_worker' });
    expect(response.headers.get('retry-after')).toBe('2');
  });

  it('one while Redis is away', async () => {
    transport.isDown = true;
    const response = await post(COMPLETIONS, completion);
    transport.isDown = false;
    await expectError(response, 503, { code: 'unavailable' });
    expect(response.headers.get('retry-after')).toBe('2');
  });
});

describe('a request with values that ask for nothing', () => {
  it('is accepted, and an empty prompt begins with the begin token', async () => {
    const { post, transport } = createTestEdge();
    const base = { ...neutral, model: 'stories-target', max_tokens: 1 };
    const { best_of: _, suffix: __, ...chatNeutral } = { ...base, ...user('hi') };

    const responses = [
      await post(COMPLETIONS, { ...base, prompt: '' }),
      await post(CHAT, chatNeutral),
    ];

    for (const response of responses) {
      expect(response.status).toBe(200);
      expect(response.headers.get('x-ignored-parameters')).toBeNull();
    }
    expect(transport.submitted[0]?.prompts).toEqual([[0]]);
  });
});
