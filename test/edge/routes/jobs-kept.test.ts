import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createRequestId, toTenantId } from '../../../shared/ids.ts';
import { jsonOf } from '../../support/edge.ts';
import { body, createJobsEdge, endpoint } from '../../support/jobs-edge.ts';

describe('GET /v1/jobs/{id}', () => {
  it('tells where a job stands while it waits, and when it is likely to begin', async () => {
    const { submit, get, transport } = createJobsEdge({ isAnswering: false });
    const first = (await submit()).body;
    const second = (await submit()).body;
    expect((await get(`/v1/jobs/${second.id}`)).body).toMatchObject({
      status: 'queued',
      position: 2,
      estimated_start_at: null,
      started_at: null,
    });

    const { card } = (await transport.models())[0]!;
    transport.setRate(card, 0.01);
    const { body: waiting } = await get(`/v1/jobs/${second.id}`);
    expect(waiting.estimated_start_at - Date.now() / 1000).toBeGreaterThan(90);
    expect(waiting.estimated_start_at - Date.now() / 1000).toBeLessThan(101);
    transport.claim(first.id);
    expect((await get(`/v1/jobs/${first.id}`)).body).toMatchObject({
      status: 'running',
      position: null,
      ended_at: null,
    });
    expect((await get(`/v1/jobs/${second.id}`)).body.position).toBe(1);
  });

  it('tells why a job failed', async () => {
    const { submit, get, transport } = createJobsEdge({ isAnswering: false });
    const { id } = (await submit()).body;
    const epoch = transport.claim(id);
    const error = { code: 'internal', message: 'no luck', param: null } as const;
    transport.append(id, epoch, { type: 'error', ...error });

    expect((await get(`/v1/jobs/${id}`)).body).toMatchObject({
      status: 'failed',
      result: null,
      error: { ...error, type: 'server_error' },
    });
  });

  it('shows what there is of a job that was cut short', async () => {
    const { submit, get, transport } = createJobsEdge({ isAnswering: false });
    const late = (await submit({ expires_in: 0.001 })).body;
    await expect.poll(async () => (await get(`/v1/jobs/${late.id}`)).body.status).toBe('expired');
    const { id } = (await submit()).body;
    await transport.cancel(id);
    const { body: cancelled } = await get(`/v1/jobs/${id}`);
    expect(cancelled).toMatchObject({ status: 'cancelled', error: null });
    expect(cancelled.result.choices[0].finish_reason).toBe('cancelled');
  });

  it('knows neither the jobs of others nor requests that somebody waits for', async () => {
    const apiKeys = new Map([
      ['one', toTenantId('a')],
      ['two', toTenantId('b')],
    ]);
    const { submit, get, post, app } = createJobsEdge({ apiKeys } as object);
    const one = { authorization: 'Bearer one' };
    const two = { authorization: 'Bearer two' };
    const { id } = (await submit({}, one)).body;
    const plain = await jsonOf(await post(endpoint, body, one));

    expect((await get(`/v1/jobs/${id}`, one)).status).toBe(200);
    expect((await get(`/v1/jobs/${plain.id}`, one)).status).toBe(404);
    for (const path of ['', '/cancel', '/deliveries', `/deliveries/msg_${id}_0/redeliver`]) {
      const method = path === '' || path === '/deliveries' ? 'GET' : 'POST';
      const response = await app.request(`/v1/jobs/${id}${path}`, { method, headers: two });
      expect(response.status).toBe(404);
    }
    const deleted = await app.request(`/v1/jobs/${id}`, { method: 'DELETE', headers: two });
    expect(deleted.status).toBe(404);
    expect((await get('/v1/jobs', two)).body.data).toEqual([]);
    expect((await get('/v1/jobs', one)).body.data).toHaveLength(1);
    expect((await get(`/v1/jobs/${createRequestId()}`, one)).status).toBe(404);
    expect((await get('/v1/jobs/nonsense', one)).status).toBe(404);
  });
});

describe('GET /v1/jobs', () => {
  it('lists newest first, in pages, and by filters', async () => {
    const { submit, get, transport } = createJobsEdge({ isAnswering: false });
    const ids: string[] = [];
    for (const kind of ['a', 'b', 'c']) ids.push((await submit({ metadata: { kind } })).body.id);
    await transport.cancel(transport.submitted[1]!.id);

    const { body: first } = await get('/v1/jobs?limit=2');
    expect(first).toMatchObject({ object: 'list', has_more: true, last_id: ids[1] });
    expect(first.data.map(({ id }: { id: string }) => id)).toEqual([ids[2], ids[1]]);
    expect(first.data[0]).not.toHaveProperty('result');
    const { body: second } = await get(`/v1/jobs?limit=2&after=${first.last_id}`);
    expect(second).toMatchObject({ has_more: false, data: [{ id: ids[0] }] });

    const { body: cancelled } = await get('/v1/jobs?status=cancelled');
    expect(cancelled.data).toMatchObject([{ id: ids[1] }]);
    const { body: kinds } = await get('/v1/jobs?metadata[kind]=c&endpoint=/v1/completions');
    expect(kinds.data).toMatchObject([{ id: ids[2] }]);
    expect((await get('/v1/jobs?endpoint=/v1/chat/completions')).body.data).toEqual([]);
  });

  it.each([
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=many', 'limit'],
    ['status=done', 'status'],
    ['endpoint=/v1/models', 'endpoint'],
    [`after=${createRequestId()}`, 'after'],
  ])('refuses %s by name', async (query, param) => {
    const { get } = createJobsEdge();
    const { status, body: answer } = await get(`/v1/jobs?${query}`);
    expect(status).toBe(400);
    expect(answer.error.param).toBe(param);
  });
});

describe('ending and forgetting', () => {
  it('cancels a job that waits, as often as that is asked', async () => {
    const { submit, app } = createJobsEdge({ isAnswering: false });
    const { id } = (await submit()).body;
    for (let tries = 0; tries < 2; tries += 1) {
      const response = await app.request(`/v1/jobs/${id}/cancel`, { method: 'POST' });
      expect(await jsonOf(response)).toMatchObject({ id, status: 'cancelled' });
    }
  });

  it('forgets a job that has ended, and refuses to forget one that has not', async () => {
    const { submit, app, get } = createJobsEdge({ isAnswering: false });
    const { id } = (await submit()).body;
    const remove = () => app.request(`/v1/jobs/${id}`, { method: 'DELETE' });
    const early = await remove();
    expect(early.status).toBe(409);
    expect((await jsonOf(early)).error.message).toContain(`POST /v1/jobs/${id}/cancel`);

    await app.request(`/v1/jobs/${id}/cancel`, { method: 'POST' });
    expect(await jsonOf(await remove())).toEqual({ id, object: 'job', deleted: true });
    expect((await remove()).status).toBe(404);
    expect((await get(`/v1/jobs/${id}`)).status).toBe(404);
    expect((await get('/v1/jobs')).body.data).toEqual([]);
  });

  it('tells the webhook first, for as long as a client would wait', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { app, submit, transport } = createJobsEdge({ isAnswering: false });
    const { id } = (await submit({ webhook: { url: 'https://example.com/hook' } })).body;
    await transport.cancel(id);
    transport.jobs.untold.add(id);
    const remove = async () => app.request(`/v1/jobs/${id}`, { method: 'DELETE' });

    const late = remove();
    await vi.advanceTimersByTimeAsync(2000);
    expect((await late).status).toBe(409);
    const soon = remove();
    await vi.advanceTimersByTimeAsync(100);
    transport.jobs.untold.delete(id);
    await vi.advanceTimersByTimeAsync(100);
    expect((await soon).status).toBe(200);
  });

  it('answers 405 for other methods', async () => {
    const { app } = createJobsEdge();
    const id = createRequestId();
    for (const path of ['', `/${id}`, `/${id}/cancel`, `/${id}/deliveries`]) {
      const response = await app.request(`/v1/jobs${path}`, { method: 'PUT' });
      expect(response.status).toBe(405);
    }
  });
});
