import { describe, expect, it } from 'vitest';
import { PlatformError } from '../../../shared/errors.ts';
import { jsonOf } from '../../support/edge.ts';
import { body, createJobsEdge, endpoint, model } from '../../support/jobs-edge.ts';

const webhook = { url: 'https://example.com/hook' };

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
    [{ endpoint: undefined }, 'endpoint', /is missing; it must be one of/],
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

  it('answers 202 with the job that was queued, though nothing can be heard of it', async () => {
    const { submit, transport } = createJobsEdge({ isAnswering: false });
    transport.open = async () => {
      transport.isDown = true;
      throw new PlatformError('unavailable', 'the queue cannot be reached');
    };
    const { status, headers, body: queued } = await submit({ webhook }, { prefer: 'wait=5' });

    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/v1/jobs/${queued.id}`);
    expect(queued).toMatchObject({ status: 'queued', position: null, result: null, error: null });
    expect(queued.webhook.secret).toBe(transport.submitted[0]?.webhook?.secret);
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
