import { describe, expect, it } from 'vitest';
import { createTestEdge, jsonOf } from '../support/edge.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

const body = { model: 'stories-target', prompt: 'Once upon a time', max_tokens: 8 };
const path = '/v1/completions';

function keyed(key: string) {
  return { 'idempotency-key': key };
}

describe('Idempotency-Key', () => {
  it('answers a retry with the first answer, and submits once', async () => {
    const { post, transport } = createTestEdge();

    const first = await post(path, body, keyed('a'));
    const second = await post(path, body, keyed('a'));

    expect(await second.text()).toBe(await first.text());
    expect(second.headers.get('x-request-id')).toBe(first.headers.get('x-request-id'));
    expect(second.headers.get('x-seed')).toBe(first.headers.get('x-seed'));
    expect(transport.submitted).toHaveLength(1);
  });

  it('replays a stream from its first event', async () => {
    const { post } = createTestEdge();

    const first = await post(path, { ...body, stream: true }, keyed('a'));
    const second = await post(path, { ...body, stream: true }, keyed('a'));

    expect(await second.text()).toBe(await first.text());
  });

  it('attaches concurrent retries to one request', async () => {
    const { post, transport } = createTestEdge();

    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => (await post(path, body, keyed('a'))).text()),
    );

    expect(new Set(answers).size).toBe(1);
    expect(transport.submitted).toHaveLength(1);
  });

  it('answers a retry when nobody serves the model any longer', async () => {
    const { post, transport } = createTestEdge();
    const first = await post(path, body, keyed('a'));
    transport.register(storiesCard, storiesFiles, 0);

    const second = await post(path, body, keyed('a'));

    expect(await second.text()).toBe(await first.text());
    expect((await post(path, body, keyed('b'))).status).toBe(503);
  });

  it('refuses the key with another body, or at another route', async () => {
    const { post, transport } = createTestEdge();
    await post(path, body, keyed('a'));

    const other = await post(path, { ...body, max_tokens: 9 }, keyed('a'));
    const messages = [{ role: 'user', content: 'Hi' }];
    const elsewhere = await post(
      '/v1/chat/completions',
      { model: body.model, messages },
      keyed('a'),
    );

    for (const response of [other, elsewhere]) {
      expect(response.status).toBe(422);
      expect(await jsonOf(response)).toMatchObject({
        error: { code: 'idempotency_mismatch', param: 'Idempotency-Key' },
      });
    }
    expect(transport.submitted).toHaveLength(1);
  });

  it('keeps the log as long as the key', async () => {
    const { post, transport } = createTestEdge();
    await post(path, body, keyed('a'));
    await post(path, body);

    expect(transport.submitted.map(({ keepMs }) => keepMs)).toEqual([86_400_000, undefined]);
  });

  it('is one for each key', async () => {
    const { post, transport } = createTestEdge();
    for (const key of ['a', 'b', 'x'.repeat(255)]) await post(path, body, keyed(key));

    expect(transport.submitted).toHaveLength(3);
  });

  it.each(['', 'x'.repeat(256), 'caf\u00e9'])('refuses the key %j', async (key) => {
    const { post, transport } = createTestEdge();

    const response = await post(path, body, keyed(key));

    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({ error: { param: 'Idempotency-Key' } });
    expect(transport.submitted).toHaveLength(0);
  });
});
