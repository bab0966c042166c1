import { describe, expect, it } from 'vitest';
import { toNotice } from '../../../edge/batches/notice.ts';
import { toTenantId } from '../../../shared/ids.ts';
import { createTestEdge, jsonOf } from '../../support/edge.ts';

const base = { endpoint: '/v1/completions', completion_window: '24h' };
const url = 'https://example.com/hook';

async function openEdge(options: object = {}, fields: Readonly<Record<string, string>> = {}) {
  const apiKeys = new Map([
    ['ann', toTenantId('ann')],
    ['bob', toTenantId('bob')],
  ]);
  const edge = createTestEdge(null, { apiKeys, ...options });
  const call = (path: string, key = 'ann', method = 'GET') =>
    edge.app.request(path, { method, headers: { authorization: `Bearer ${key}` } });
  const form = new FormData();
  form.set('file', new Blob(['{}\n']), 'in.jsonl');
  form.set('purpose', 'batch');
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  const headers = { authorization: 'Bearer ann' };
  const upload = await edge.app.request('/v1/files', { method: 'POST', headers, body: form });
  const { id: inputFileId } = await jsonOf(upload);
  const create = (fields: object, key = 'ann') =>
    edge.post(
      '/v1/batches',
      { ...base, input_file_id: inputFileId, ...fields },
      { authorization: `Bearer ${key}` },
    );
  return { ...edge, call, create };
}

describe('batches', () => {
  it('belong to their tenant, as their input does', async () => {
    const { create, call } = await openEdge();
    const { id, status } = await jsonOf(await create({}));

    expect(status).toBe('validating');
    expect((await create({}, 'bob')).status).toBe(400);
    expect((await call(`/v1/batches/${id}`, 'bob')).status).toBe(404);
    expect((await call(`/v1/batches/${id}/cancel`, 'bob', 'POST')).status).toBe(404);
    expect((await jsonOf(await call('/v1/batches', 'bob'))).data).toEqual([]);
    expect((await jsonOf(await call('/v1/batches'))).data).toMatchObject([{ id }]);
    expect((await jsonOf(await call(`/v1/batches?after=${id}`))).data).toEqual([]);
    expect((await jsonOf(await call('/v1/batches?after=first'))).error.param).toBe('after');
  });

  it('are cancelled once, and not when they have ended', async () => {
    const { create, post, transport } = await openEdge();
    const { id } = await jsonOf(await create({}));
    const cancel = (headers: Record<string, string> = {}) =>
      post(`/v1/batches/${id}/cancel`, '', { authorization: 'Bearer ann', ...headers });

    expect(await jsonOf(await cancel())).toMatchObject({ status: 'cancelling' });
    expect((await cancel({ 'idempotency-key': 'a' })).status).toBe(200);
    const batch = await transport.batches.claim(id);
    const file = { id: 'file-x', tenant: toTenantId('ann'), filename: '', expiresMs: 0 };
    const output = { ...file, purpose: 'batch_output', createdMs: 0, numBytes: 0 } as const;
    const end = { status: 'cancelled', errors: [], output, errorOutput: output } as const;
    await transport.batches.end(batch!, end);
    expect((await cancel()).status).toBe(409);
    expect((await cancel({ 'idempotency-key': 'b' })).status).toBe(409);
    expect((await cancel({ 'idempotency-key': 'b' })).status).toBe(409); // it was refused
    const retry = await cancel({ 'idempotency-key': 'a' });
    expect(retry.status).toBe(200);
    expect(await jsonOf(retry)).toMatchObject({ id, status: 'cancelled' });
  });

  it.each([
    ['completion_window', { completion_window: '1h' }],
    ['endpoint', { endpoint: '/v1/embeddings' }],
    ['input_file_id', { input_file_id: 'file-x' }],
    ['metadata', { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, ''])) }],
    [
      'output_expires_after.seconds',
      { output_expires_after: { anchor: 'created_at', seconds: 1 } },
    ],
    ['webhook.url', { webhook: { url: 'https://127.0.0.1/' } }],
    ['webhook.events[0]', { webhook: { url, events: ['job.queued'] } }],
  ])('are refused for %s', async (param, fields) => {
    const { create } = await openEdge();
    const response = await create(fields);
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error.param).toBe(param);
  });

  it('are refused where their input is not kept for as long as they may take', async () => {
    const hours = (count: number) => ({
      'expires_after[anchor]': 'created_at',
      'expires_after[seconds]': `${count * 3600}`,
    });
    const { create } = await openEdge({}, hours(23));
    const refused = await create({});
    expect(refused.status).toBe(400);
    expect((await jsonOf(refused)).error).toMatchObject({
      param: 'input_file_id',
      message: expect.stringContaining('is kept until 2023-11-15T21:13:20.000Z'),
    });
    const longer = await openEdge({}, hours(24));
    expect((await longer.create({})).status).toBe(200);
  });

  it('are refused where as many as may be are open', async () => {
    const { create } = await openEdge({ maxOpenBatches: 1 });
    expect((await create({})).status).toBe(200);
    const refused = await create({});
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).not.toBeNull();
  });

  it('name the fields of theirs that nobody knows', async () => {
    const { create } = await openEdge();
    const response = await create({ flavor: 'sweet', user: 'ann', 'a b': 1 });
    expect(response.status).toBe(200);
    expect(response.headers.get('x-ignored-parameters')).toBe('flavor, a%20b');
    expect((await create({})).headers.get('x-ignored-parameters')).toBeNull();
  });

  it('tell the secret of their webhook once, and it of the ends it asked for', async () => {
    const { create, call, transport } = await openEdge();
    const webhook = { url, events: ['batch.completed'] };
    const { id, webhook: shown } = await jsonOf(await create({ webhook }));

    expect(shown).toMatchObject({ ...webhook, payload: 'thin' });
    expect(shown.secret).toMatch(/^whsec_/);
    expect((await jsonOf(await call(`/v1/batches/${id}`))).webhook.secret).toBeUndefined();
    const batch = (await transport.batches.find(id))!;
    expect(toNotice({ ...batch, status: 'completed' })).toMatchObject({
      webhookId: `msg_${id}_0`,
      event: 'batch.completed',
      webhook: { ...webhook, secret: shown.secret },
      data: { id },
    });
    expect(toNotice({ ...batch, status: 'expired' }).webhook).toBeNull();
  });
});

describe('deliveries of a batch', () => {
  const webhook = { url, events: ['batch.cancelled'] };

  async function openEnded(fields: object) {
    const edge = await openEdge();
    const { id } = await jsonOf(await edge.create(fields));
    const batch = await edge.transport.batches.claim(id);
    const file = { id: 'file-x', tenant: toTenantId('ann'), filename: '', expiresMs: 0 };
    const output = { ...file, purpose: 'batch_output', createdMs: 0, numBytes: 0 } as const;
    const end = { status: 'cancelled', errors: [], output, errorOutput: output } as const;
    await edge.transport.batches.end(batch!, end);
    const redeliver = (n: number, key = 'ann') =>
      edge.call(`/v1/batches/${id}/deliveries/msg_${id}_${n}/redeliver`, key, 'POST');
    return { ...edge, id, redeliver };
  }

  it('are shown attempt by attempt, and made again', async () => {
    const { call, transport, id, redeliver } = await openEnded({ webhook });
    const attempt = { webhookId: `msg_${id}_0`, type: 'batch.cancelled', atMs: 1500, error: null };
    transport.notices.addAttempt(id, { ...attempt, status: 500, durationMs: 12, answer: 'oh no' });

    const { data } = await jsonOf(await call(`/v1/batches/${id}/deliveries`));
    expect(data).toMatchObject([{ webhook_id: `msg_${id}_0`, status: 500, answer: 'oh no' }]);
    const accepted = await redeliver(0);
    expect(accepted.status).toBe(202);
    expect(await jsonOf(accepted)).toMatchObject({ webhook_id: `msg_${id}_0`, batch_id: id });
    expect(transport.notices.redeliveries).toEqual([`msg_${id}_0`]);
    expect((await redeliver(1)).status).toBe(404);
    expect((await redeliver(0, 'bob')).status).toBe(404);
    expect((await call(`/v1/batches/${id}/deliveries`, 'bob')).status).toBe(404);
  });

  it('are none before its end, nor of an end that nobody asked to be told of', async () => {
    const open = await openEdge();
    const { id } = await jsonOf(await open.create({ webhook }));
    const path = `/v1/batches/${id}/deliveries/msg_${id}_0/redeliver`;
    expect((await open.call(path, 'ann', 'POST')).status).toBe(404);
    const other = await openEnded({ webhook: { url, events: ['batch.completed'] } });
    expect((await other.redeliver(0)).status).toBe(404);
  });
});
