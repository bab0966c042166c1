import { describe, expect, it } from 'vitest';
import { toTenantId } from '../../../shared/ids.ts';
import { createTestEdge, jsonOf } from '../../support/edge.ts';

const tenant = toTenantId('default');
const job = {
  endpoint: '/v1/completions',
  body: { model: 'stories-target', prompt: 'Once' },
  webhook: { url: 'https://example.com/hook', events: ['job.queued', 'job.succeeded'] },
};

function createEventsEdge() {
  const edge = createTestEdge(null, { now: Date.now });
  const get = async (path: string) => jsonOf(await edge.app.request(path));
  return { ...edge, get };
}

describe('GET /v1/events', () => {
  it('gives what webhooks were told, from a cursor on, also when nothing is new', async () => {
    const { get, transport } = createEventsEdge();
    for (const n of [1, 2, 3]) {
      const data = { id: `job-${n}`, status: 'failed' };
      const about = { requestId: `job-${n}`, type: 'job.failed', atMs: n * 1000 };
      transport.notices.addNotice(tenant, { webhookId: `msg_${n}`, data, ...about });
    }

    const first = await get('/v1/events?limit=2');
    expect(first).toMatchObject({ object: 'list', has_more: true });
    expect(first.data[0]).toEqual({
      id: 'msg_1',
      object: 'event',
      type: 'job.failed',
      timestamp: '1970-01-01T00:00:01.000Z',
      created_at: 1,
      data: { id: 'job-1', status: 'failed' },
    });
    const second = await get(`/v1/events?after=${first.next_after}`);
    expect(second).toMatchObject({ has_more: false, data: [{ id: 'msg_3' }] });
    const third = await get(`/v1/events?after=${second.next_after}`);
    expect(third).toEqual({
      object: 'list',
      data: [],
      next_after: second.next_after,
      has_more: false,
    });
  });

  it('says so when what followed the cursor is no longer kept', async () => {
    const { app, get, transport } = createEventsEdge();
    const listed = { requestId: 'job', type: 'job.failed', atMs: 1, data: {} };
    for (const n of [1, 2, 3]) {
      transport.notices.addNotice(tenant, { webhookId: `msg_${n}`, ...listed });
    }
    const { next_after: after } = await get('/v1/events?limit=1');
    transport.notices.numTrimmed = 2;

    const gone = await app.request(`/v1/events?after=${after}`);
    expect(gone.status).toBe(410);
    expect((await jsonOf(gone)).error).toMatchObject({ code: 'events_trimmed', param: 'after' });
  });

  it.each(['after=nonsense', 'limit=0', 'limit=1001'])('refuses %s by name', async (query) => {
    const { app } = createEventsEdge();
    const response = await app.request(`/v1/events?${query}`);
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error.param).toBe(query.split('=')[0]);
  });
});

describe('deliveries of a job', () => {
  it('are shown attempt by attempt, and made again on demand', async () => {
    const { app, get, post, transport } = createEventsEdge();
    const { id } = await jsonOf(await post('/v1/jobs', job));
    const webhookId = `msg_${id}_0`;
    transport.notices.addAttempt(id, {
      webhookId,
      type: 'job.queued',
      atMs: 1500,
      status: 500,
      error: null,
      durationMs: 12,
      answer: 'oh no',
    });

    expect((await get(`/v1/jobs/${id}/deliveries`)).data).toEqual([
      {
        object: 'delivery',
        webhook_id: webhookId,
        type: 'job.queued',
        at: '1970-01-01T00:00:01.500Z',
        status: 500,
        duration_ms: 12,
        error: null,
        answer: 'oh no',
      },
    ]);
    const again = `/v1/jobs/${id}/deliveries/${webhookId}/redeliver`;
    const accepted = await app.request(again, { method: 'POST' });
    expect(accepted.status).toBe(202);
    expect(await jsonOf(accepted)).toMatchObject({ webhook_id: webhookId, job_id: id });
    expect(transport.notices.redeliveries).toEqual([webhookId]);
    const headers = { 'idempotency-key': 'a' };
    for (const method of ['POST', 'POST']) {
      expect((await app.request(again, { method, headers })).status).toBe(202);
    }
    expect(transport.notices.redeliveries).toEqual([webhookId, webhookId]);
    const unknown = await app.request(again.replace('_0/', '_9/'), { method: 'POST' });
    expect(unknown.status).toBe(404);
  });

  it('are refused where a piece of output was taken, as nobody keeps it', async () => {
    const { app, post, transport } = createEventsEdge();
    const { id } = await jsonOf(await post('/v1/jobs', job));
    const webhookId = `msg_${id}_o0`;
    const attempt = { webhookId, type: 'job.output', atMs: 1500, error: null, durationMs: 12 };
    transport.notices.addAttempt(id, { ...attempt, status: 204, answer: '' });

    const again = `/v1/jobs/${id}/deliveries/${webhookId}/redeliver`;
    const refused = await app.request(again, { method: 'POST' });
    expect(refused.status).toBe(409);
    expect((await jsonOf(refused)).error.message).toContain(`/v1/requests/${id}/events`);
  });
});
