import { describe, expect, it } from 'vitest';
import { createRequestId, type TenantId, toTenantId } from '../../../shared/ids.ts';
import type { DeadLetter } from '../../../shared/protocol/webhook.ts';
import { createTestEdge, jsonOf } from '../../support/edge.ts';

const ann = toTenantId('ann');
const url = 'https://example.com/hook';

function openEdge() {
  const apiKeys = new Map(['ann', 'bob'].map((name) => [name, toTenantId(name)]));
  const { app, transport } = createTestEdge(null, { apiKeys });
  const call = async (path: string, { method = 'GET', key = 'ann', headers = {} } = {}) => {
    const authorization = `Bearer ${key}`;
    const response = await app.request(path, { method, headers: { authorization, ...headers } });
    return { status: response.status, body: await jsonOf(response) };
  };
  const add = (n: number, requestId: string = createRequestId(), tenant: TenantId = ann) => {
    const about = { requestId, type: 'job.failed', url, atMs: n * 1000 };
    const letter: DeadLetter = {
      webhookId: `msg_${requestId}_2`,
      ...about,
      numAttempts: 10,
      status: 500,
      error: null,
    };
    transport.notices.addDeadLetter(tenant, letter);
    return letter;
  };
  return { call, add, notices: transport.notices };
}

describe('GET /v1/dead_letters', () => {
  it('lists deliveries that were given up, page by page, also while they are repaired', async () => {
    const { call, add, notices } = openEdge();
    const [oldest, middle, latest] = [add(1), add(2), add(3)];
    const first = (await call('/v1/dead_letters?limit=2')).body;

    expect(first).toMatchObject({ object: 'list', has_more: true });
    expect(first.data).toEqual([
      {
        object: 'dead_letter',
        webhook_id: latest.webhookId,
        job_id: latest.requestId,
        batch_id: null,
        type: 'job.failed',
        url,
        at: '1970-01-01T00:00:03.000Z',
        num_attempts: 10,
        status: 500,
        error: null,
      },
      expect.objectContaining({ webhook_id: middle.webhookId }),
    ]);
    notices.removeDeadLetter(ann, middle.webhookId);
    const second = (await call(`/v1/dead_letters?after=${first.next_after}`)).body;
    expect(second).toMatchObject({ has_more: false, data: [{ webhook_id: oldest.webhookId }] });
    const wrong = await call(`/v1/dead_letters?after=${oldest.webhookId}`);
    expect(wrong).toMatchObject({ status: 400, body: { error: { param: 'after' } } });
  });

  it('knows the notice of a batch from that of a job', async () => {
    const { call, add } = openEdge();
    const batchId = `batch_${'0'.repeat(32)}`;
    add(1, batchId);
    const { data } = (await call('/v1/dead_letters')).body;
    expect(data).toMatchObject([{ job_id: null, batch_id: batchId }]);
  });
});

describe('a dead letter', () => {
  it('is shown with its attempts, and sent again, though its job is forgotten', async () => {
    const { call, add, notices } = openEdge();
    const { webhookId, requestId } = add(1);
    const attempt = { type: 'job.failed', atMs: 1500, status: 500, error: null, durationMs: 12 };
    for (const id of [webhookId, `msg_${requestId}_0`]) {
      notices.addAttempt(requestId, { webhookId: id, ...attempt, answer: 'oh no' });
    }
    const path = `/v1/dead_letters/${webhookId}`;

    const { body: letter } = await call(path);
    expect(letter).toMatchObject({ webhook_id: webhookId, num_attempts: 10 });
    expect(letter.deliveries).toMatchObject([{ webhook_id: webhookId, answer: 'oh no' }]);
    const headers = { 'idempotency-key': 'a' };
    for (let i = 0; i < 2; i += 1) {
      expect(await call(`${path}/redeliver`, { method: 'POST', headers })).toMatchObject({
        status: 202,
        body: { webhook_id: webhookId, object: 'redelivery', job_id: requestId, batch_id: null },
      });
    }
    expect(notices.redeliveries).toEqual([webhookId]);
  });

  it('belongs to its tenant', async () => {
    const { call, add, notices } = openEdge();
    const path = `/v1/dead_letters/${add(1).webhookId}`;
    expect((await call(path, { key: 'bob' })).status).toBe(404);
    const redeliver = await call(`${path}/redeliver`, { key: 'bob', method: 'POST' });
    expect(redeliver.status).toBe(404);
    expect((await call('/v1/dead_letters/msg_x')).status).toBe(404);
    expect(notices.redeliveries).toEqual([]);
  });
});
