import { describe, expect, it } from 'vitest';
import { createRequestId, toTenantId } from '../../../shared/ids.ts';
import { createTestEdge, jsonOf } from '../../support/edge.ts';

const model = 'stories-target';
const endpoint = '/v1/completions';
const body = { model, prompt: 'Once upon a time', max_tokens: 8, seed: 7 };
const job = { endpoint, body };
const webhook = { url: 'https://example.com/hook' };

/** An edge whose jobs wait until the test claims them, unless it has somebody to tell stories. */
function createJobsEdge({ isAnswering = true, ...options } = {}) {
  const clock = { now: Date.now, ...options };
  const edge = isAnswering ? createTestEdge(undefined, clock) : createTestEdge(null, clock);
  const { app, post } = edge;
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await app.request(path, { headers });
    return { status: response.status, headers: response.headers, body: await jsonOf(response) };
  };
  const submit = async (fields: object = {}, headers: Record<string, string> = {}) => {
    const response = await post('/v1/jobs', { ...job, ...fields }, headers);
    return { status: response.status, headers: response.headers, body: await jsonOf(response) };
  };
  /** The job once it has ended. */
  const finished = async (id: string) => (await get(`/v1/jobs/${id}`, { prefer: 'wait=10' })).body;
  return { ...edge, get, submit, finished };
}

describe('POST /v1/jobs', () => {
  it('answers 202 with a job that becomes the very answer of the plain endpoint', async () => {
    const { submit, finished, post } = createJobsEdge();
    const { status, headers, body: queued } = await submit({ metadata: { order: '17' } });

    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/v1/jobs/${queued.id}`);
    expect(headers.get('x-request-id')).toBe(queued.id);
    expect(headers.get('x-seed')).toBe('7');
    expect(queued).toMatchObject({
      object: 'job',
      endpoint,
      model,
      metadata: { order: '17' },
      webhook: null,
      priority: 1000,
      error: null,
    });
    const done = await finished(queued.id);
    expect(done).toMatchObject({ status: 'succeeded', position: null, error: null });
    expect(done.timings.queued_ms).toBeGreaterThanOrEqual(0);
    expect(done.timings.running_ms).toBeGreaterThanOrEqual(0);
    const plain = await jsonOf(await post(endpoint, body));
    const { id: _, created: __, ...answer } = plain;
    expect(done.result).toMatchObject(answer);
    expect(done.result.id).toBe(queued.id);
    expect(done.usage).toEqual(plain.usage);
  });

  it('takes chat as well', async () => {
    const { submit, finished } = createJobsEdge();
    const chat = { model, messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 };
    const { body: queued } = await submit({ endpoint: '/v1/chat/completions', body: chat });
    const done = await finished(queued.id);
    expect(done.result.object).toBe('chat.completion');
    expect(done.result.choices[0].message.content).not.toBe('');
  });

  it('makes a job that outlives its client, is kept for a day and has its deadline', async () => {
    const { submit, transport } = createJobsEdge({ isAnswering: false });
    const before = Date.now();
    await submit({ expires_in: 60, priority: 5, body: { ...body, on_disconnect: 'cancel' } });

    expect(transport.submitted[0]).toMatchObject({
      background: true,
      onDisconnect: 'continue',
      keepMs: 24 * 3_600_000,
      priority: 5,
    });
    const { deadlineMs } = transport.submitted[0]!;
    expect(deadlineMs).toBeGreaterThanOrEqual(before + 60_000);
    expect(deadlineMs).toBeLessThanOrEqual(Date.now() + 60_000);
  });

  it('is kept for as long as configured, also under an idempotency key', async () => {
    const jobRetentionMs = 48 * 3_600_000;
    const { submit, transport } = createJobsEdge({ jobRetentionMs } as object);
    await submit({}, { 'idempotency-key': 'a' });
    expect(transport.submitted[0]?.keepMs).toBe(jobRetentionMs);
  });

  it('stands for one job under one idempotency key', async () => {
    const { submit, transport, finished } = createJobsEdge();
    const key = { 'idempotency-key': 'a' };
    const first = await submit({ webhook }, key);
    await finished(first.body.id);
    const second = await submit({ webhook }, key);

    expect(second.body.id).toBe(first.body.id);
    expect(second.body.webhook.secret).toBe(first.body.webhook.secret);
    expect(transport.submitted).toHaveLength(1);
    const other = await submit({ webhook, priority: 3 }, key);
    expect(other.status).toBe(422);
  });

  it.each([
    [{ endpoint: '/v1/embeddings' }, 'endpoint', /must be one of/],
    [{ endpoint: undefined }, 'endpoint', /is undefined|is missing/],
    [{ body: undefined }, 'body', /is missing/],
    [{ body: 'text' }, 'body', /must be an object/],
    [{ body: { ...body, prompt: [] } }, 'body.prompt', /body\.prompt is an empty array/],
    [{ body: { ...body, model: 'none' } }, 'body.model', /does not exist/],
    [
      { body: { ...body, temperature: 3 } },
      'body.temperature',
      /body\.temperature is 3; the limit is 2/,
    ],
    [{ body: { ...body, tools: [{}] } }, 'body.tools', /body\.tools is not supported/],
    [
      { body: { ...body, stream: true } },
      'body.stream',
      /body\.stream is true; a job has no stream/,
    ],
    [{ body: { ...body, background: true } }, 'body.background', /belongs beside body/],
    [{ body: { ...body, webhook } }, 'body.webhook', /belongs beside body/],
    [{ body: { ...body, timeout: 5 }, expires_in: 5 }, 'body.timeout', /leave one out/],
    [{ body: { ...body, priority: 5 }, priority: 5 }, 'body.priority', /leave one out/],
    [{ body: { ...body, max_tokens: 100_000 } }, 'body.prompt', /together; the limit is/],
    [{ priority: 0 }, 'priority', /the least is 1/],
    [{ expires_in: 0 }, 'expires_in', /must be greater than 0/],
    [{ expires_in: 604_801 }, 'expires_in', /the limit is 604800/],
    [{ metadata: { a: 1 } }, 'metadata.a', /must be a string/],
    [{ metadata: { a: 'x'.repeat(513) } }, 'metadata.a', /the limit is 512/],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ''])) },
      'metadata',
      /the limit is 16/,
    ],
    [{ webhook: 'https://example.com' }, 'webhook', /must be an object/],
    [{ webhook: {} }, 'webhook.url', /is missing/],
    [{ webhook: { ...webhook, event: [] } }, 'webhook', /unknown field: event/],
    [{ webhook: { url: 'http://example.com/' } }, 'webhook.url', /must begin with https:/],
    [{ webhook: { url: 'https://0x7f.1/' } }, 'webhook.url', /127\.0\.0\.1, which is not a public/],
    [{ webhook: { ...webhook, events: [] } }, 'webhook.events', /the least is 1/],
    [{ webhook: { ...webhook, events: ['job.done'] } }, 'webhook.events[0]', /must be one of/],
    [{ webhook: { ...webhook, payload: 'all' } }, 'webhook.payload', /must be one of/],
    [{ webhook: { ...webhook, secret: 'whsec_c2hvcnQ=' } }, 'webhook.secret[0]', /24 to 64 bytes/],
    [{ webhook: { ...webhook, secret: 'hunter2' } }, 'webhook.secret[0]', /must be whsec_/],
  ])('refuses %j by name', async (fields, param, message) => {
    const { submit, transport } = createJobsEdge();
    const { status, body: answer } = await submit(fields);

    expect(answer).toMatchObject({ error: { param, message: expect.stringMatching(message) } });
    expect(status).toBe(param === 'body.model' ? 404 : 400);
    expect(transport.submitted).toEqual([]);
  });

  it('names what it ignores, in the body and beside it', async () => {
    const { submit } = createJobsEdge();
    const { headers } = await submit({ retries: 3, body: { ...body, foo: 1 } });
    expect(headers.get('x-ignored-parameters')).toBe('retries, body.foo');
  });
});

describe('a webhook', () => {
  const secret = `whsec_${btoa('0123456789abcdef01234567')}`;

  it('is told of ends unless asked otherwise, and gets a secret that is shown once', async () => {
    const { submit, get, transport } = createJobsEdge();
    const { body: queued } = await submit({ webhook });

    expect(queued.webhook).toMatchObject({
      url: webhook.url,
      events: ['job.succeeded', 'job.failed', 'job.cancelled', 'job.expired'],
      payload: 'thin',
    });
    expect(atob(queued.webhook.secret.slice('whsec_'.length))).toHaveLength(32);
    expect(transport.submitted[0]?.webhook?.secret).toBe(queued.webhook.secret);
    for (const path of [`/v1/jobs/${queued.id}`, '/v1/jobs', `/v1/jobs/${queued.id}/deliveries`]) {
      expect(JSON.stringify((await get(path)).body)).not.toContain('whsec_');
    }
  });

  it('keeps the secrets that it brings to itself', async () => {
    const { submit, transport } = createJobsEdge();
    const other = `whsec_${btoa('another secret of 33 bytes, longer')}`;
    for (const given of [[secret, other], `${secret} ${other}`]) {
      const { body: queued } = await submit({ webhook: { ...webhook, secret: given } });
      expect(queued.webhook).not.toHaveProperty('secret');
      expect(transport.submitted.at(-1)?.webhook?.secret).toBe(`${secret} ${other}`);
    }
  });

  it('gets none where the operator has one for the tenant', async () => {
    const webhooks = { isInsecureAllowed: false, tenantsWithSecret: new Set(['default']) };
    const { submit, transport } = createJobsEdge({ webhooks } as object);
    const { body: queued } = await submit({ webhook });
    expect(queued.webhook).not.toHaveProperty('secret');
    expect(transport.submitted[0]?.webhook).not.toHaveProperty('secret');
  });

  it('may be on this machine in development', async () => {
    const webhooks = { isInsecureAllowed: true, tenantsWithSecret: new Set() };
    const { submit } = createJobsEdge({ webhooks } as object);
    expect((await submit({ webhook: { url: 'http://localhost:3000/' } })).status).toBe(202);
  });
});

describe('"background": true on a plain endpoint', () => {
  it('answers 202 with the job', async () => {
    const { post, finished, transport } = createJobsEdge();
    const metadata = { run: '7' };
    const response = await post(endpoint, { ...body, background: true, webhook, metadata });
    const queued = await jsonOf(response);

    expect(response.status).toBe(202);
    expect(queued).toMatchObject({ object: 'job', endpoint, metadata, webhook });
    expect(await finished(queued.id)).toMatchObject({ status: 'succeeded', metadata });
    expect(transport.submitted[0]).toMatchObject({ background: true, onDisconnect: 'continue' });
  });

  it.each([
    [{ webhook }, 'webhook', /needs background/],
    [{ background: true, stream: true }, 'stream', /stream is true/],
    [{ background: true, metadata: { a: 1 } }, 'metadata.a', /must be a string/],
    [{ background: true, webhook: { url: 'https://[::1]/' } }, 'webhook.url', /public address/],
  ])('refuses %j', async (fields, param, message) => {
    const { post } = createJobsEdge();
    const response = await post(endpoint, { ...body, ...fields });
    expect(response.status).toBe(400);
    expect(await jsonOf(response)).toMatchObject({
      error: { param, message: expect.stringMatching(message) },
    });
  });
});

describe('Prefer: wait', () => {
  it('holds the answer until the job is done, and then answers 200', async () => {
    const { submit } = createJobsEdge();
    const prefer = { prefer: 'respond-async, wait=20' };
    const { status, headers, body: done } = await submit({}, prefer);
    expect(status).toBe(200);
    expect(headers.get('preference-applied')).toBe('wait=20');
    expect(done).toMatchObject({ status: 'succeeded' });
    expect(done.result.choices[0].text).not.toBe('');
  });

  it('answers 202 when the time is over', async () => {
    const { submit } = createJobsEdge({ isAnswering: false });
    const { status, headers, body: queued } = await submit({}, { prefer: 'wait=1' });
    expect(status).toBe(202);
    expect(headers.get('preference-applied')).toBe('wait=1');
    expect(queued).toMatchObject({ status: 'queued', result: null });
  });

  it('waits no longer than it says it does, and not at all for what it does not understand', async () => {
    const { submit } = createJobsEdge();
    const long = await submit({}, { prefer: 'wait=86400' });
    expect(long.headers.get('preference-applied')).toBe('wait=60');
    for (const prefer of ['wait=soon', 'wait', 'wait=-1', 'return=minimal', 'wait=0']) {
      const { status } = await submit({}, { prefer });
      expect(status).toBe(202);
    }
  });
});

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

  it('answers 405 for other methods', async () => {
    const { app } = createJobsEdge();
    const id = createRequestId();
    for (const path of ['', `/${id}`, `/${id}/cancel`, `/${id}/deliveries`]) {
      const response = await app.request(`/v1/jobs${path}`, { method: 'PUT' });
      expect(response.status).toBe(405);
    }
  });
});
