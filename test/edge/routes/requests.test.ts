import { describe, expect, it } from 'vitest';
import { createRequestId, toTenantId } from '../../../shared/ids.ts';
import { createTestEdge, jsonOf, parseFrames } from '../../support/edge.ts';
import { doneOf } from '../../support/fake-transport.ts';
import { tokensOf } from '../../support/transport-conformance.ts';

const COMPLETIONS = '/v1/completions';
const CHAT = '/v1/chat/completions';
const completion = {
  model: 'stories-target',
  prompt: 'Once',
  seed: 3,
  max_tokens: 5,
  stream: true,
};
const chat = {
  model: 'stories-target',
  messages: [{ role: 'user', content: 'a dog' }],
  seed: 3,
  max_tokens: 5,
  stream: true,
};

/** Sends one request and reads its stream to the end. */
async function tell(path: string, body: object) {
  const edge = createTestEdge();
  const response = await edge.post(path, body);
  const text = await response.text();
  const id = response.headers.get('x-request-id');
  const replay = async (after?: string) => {
    const headers = after === undefined ? {} : { 'last-event-id': after };
    const again = await edge.app.request(`/v1/requests/${id}/events`, { headers });
    return { headers: again.headers, text: await again.text() };
  };
  return { ...edge, id, text, replay };
}

describe('GET /v1/requests/{id}/events', () => {
  it.each([
    ['a completion', COMPLETIONS, completion],
    ['a chat', CHAT, chat],
    ['a chat of two choices', CHAT, { ...chat, n: 2 }],
    ['usage', CHAT, { ...chat, stream_options: { include_usage: true } }],
    ['log-probabilities', COMPLETIONS, { ...completion, logprobs: 2, echo: true }],
  ])('replays %s byte for byte, from any frame on', async (_, path, body) => {
    const { id, text, replay } = await tell(path, body);
    const whole = await replay();

    expect(whole.text).toBe(text);
    expect(whole.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(whole.headers.get('x-request-id')).toBe(id);
    const blocks = text.split('\n\n').slice(0, -1);
    for (const frame of parseFrames(text)) {
      const last = blocks.findLastIndex((block) => block.startsWith(`id: ${frame.id}\n`));
      const rest = blocks.slice(last + 1).map((block) => `${block}\n\n`);
      const expected = rest.length > 0 ? rest.join('') : `id: ${frame.id}\ndata: [DONE]\n\n`;
      expect((await replay(frame.id ?? '')).text).toBe(expected);
    }
  });

  it('shows a plain request as the stream it was not, usage included', async () => {
    const { text, replay } = await tell(CHAT, { ...chat, stream: false });
    const { choices, usage } = JSON.parse(text);

    const frames = parseFrames((await replay()).text);

    const deltas = frames.slice(0, -2).map(({ data }) => data.choices[0].delta.content ?? '');
    expect(deltas.join('')).toBe(choices[0].message.content);
    expect(frames.at(-2)?.data.usage).toEqual(usage);
    expect(frames.at(-1)?.data).toBe('[DONE]');
  });

  it('goes on with a stream that still runs, over the claims of two workers', async () => {
    const { app, post, transport } = createTestEdge(null);
    const response = await postUntilFirst(post, transport);
    const id = response.headers.get('x-request-id');
    const events = await app.request(`/v1/requests/${id}/events`, {
      headers: { 'last-event-id': '1-0' },
    });
    const [job] = transport.submitted;
    const epoch = transport.claim(job!.id);
    transport.append(job!.id, epoch, tokensOf(' there', 'stop'));
    transport.append(job!.id, epoch, doneOf({ promptTokens: 2, completionTokens: 2 }));

    expect(parseFrames(await events.text()).map((frame) => frame.id)).toEqual(['2-1', '2-2']);
    expect(parseFrames(await response.text()).map((frame) => frame.id)).toEqual([
      '1-0',
      '2-1',
      '2-2',
    ]);
  });

  it('ends without [DONE] what ended with an error', async () => {
    const edge = createTestEdge((_, append) => {
      append(tokensOf('Hi'));
      append({ type: 'error', code: 'internal', message: 'no luck', param: null });
    });
    const response = await edge.post(COMPLETIONS, completion);
    const text = await response.text();
    const path = `/v1/requests/${response.headers.get('x-request-id')}/events`;
    const replay = async (after: string) => {
      const again = await edge.app.request(path, { headers: { 'last-event-id': after } });
      return again.text();
    };

    expect(text.startsWith(await replay('0-0'))).toBe(true);
    expect(parseFrames(await replay('1-0'))).toMatchObject([
      { id: '1-1', data: { error: { code: 'internal' } } },
    ]);
    expect(await replay('1-1')).toBe('');
  });

  it('refuses what is no event id', async () => {
    const { app, id } = await tell(COMPLETIONS, completion);
    const headers = { 'last-event-id': 'yesterday' };

    const response = await app.request(`/v1/requests/${id}/events`, { headers });

    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error.message).toContain('Last-Event-ID is "yesterday"');
  });
});

/** Posts a streamed completion and plays its worker by hand, up to the first token. */
async function postUntilFirst(
  post: ReturnType<typeof createTestEdge>['post'],
  transport: ReturnType<typeof createTestEdge>['transport'],
) {
  const submitted = transport.nextSubmission();
  const response = post(COMPLETIONS, completion);
  const { id } = await submitted;
  transport.append(id, transport.claim(id), tokensOf('Hi'));
  return response;
}

describe('GET /v1/requests/{id}', () => {
  it('tells the state of a request', async () => {
    const { app, id } = await tell(CHAT, { ...chat, timeout: 60 });

    const response = await app.request(`/v1/requests/${id}`);

    expect(response.headers.get('x-request-id')).toBe(id);
    expect(await response.json()).toEqual({
      id,
      object: 'request',
      status: 'succeeded',
      endpoint: '/v1/chat/completions',
      model: 'stories-target',
      system_fingerprint: 'fp-stories',
      seed: 3,
      created: 1_700_000_000,
      expires_at: 1_700_000_060,
      stream: true,
      epoch: 1,
    });
  });

  it.each(['nonsense', createRequestId()])('knows no request %s', async (id) => {
    const { app } = createTestEdge();
    for (const path of [`/v1/requests/${id}`, `/v1/requests/${id}/events`]) {
      const response = await app.request(path);
      expect(response.status).toBe(404);
      expect((await jsonOf(response)).error.code).toBe('not_found');
    }
  });

  it('keeps the requests of one tenant from another', async () => {
    const apiKeys = new Map([
      ['key-a', toTenantId('a')],
      ['key-b', toTenantId('b')],
    ]);
    const { app, post, transport } = createTestEdge(undefined, { apiKeys });
    const as = (key: string) => ({ authorization: `Bearer ${key}` });
    const response = await post(COMPLETIONS, completion, as('key-a'));
    const path = `/v1/requests/${response.headers.get('x-request-id')}`;

    expect((await app.request(path, { headers: as('key-a') })).status).toBe(200);
    expect((await app.request(path, { headers: as('key-b') })).status).toBe(404);
    expect((await app.request(`${path}/events`, { headers: as('key-b') })).status).toBe(404);
    const cancel = { method: 'POST', headers: as('key-b') };
    expect((await app.request(`${path}/cancel`, cancel)).status).toBe(404);
    expect(transport.cancelled).toEqual([]);
    expect(transport.submitted[0]?.tenant).toBe('a');
  });
});

describe('POST /v1/requests/{id}/cancel', () => {
  it('ends a running stream with finish reason cancelled, however often it is called', async () => {
    const { app, post } = createTestEdge();
    const response = await post(CHAT, { ...chat, max_tokens: 400 });
    const path = `/v1/requests/${response.headers.get('x-request-id')}/cancel`;

    const cancelled = await app.request(path, { method: 'POST' });
    await app.request(path, { method: 'POST' });

    expect(cancelled.status).toBe(200);
    expect(await cancelled.json()).toMatchObject({ object: 'request' });
    const frames = parseFrames(await response.text());
    expect(frames.at(-2)?.data.choices[0].finish_reason).toBe('cancelled');
    expect(frames.at(-1)?.data).toBe('[DONE]');
  });
});
