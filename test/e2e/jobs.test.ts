import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyDelivery } from '../support/deliveries.ts';
import { jsonOf, parseFrames } from '../support/edge.ts';
import type { Service } from '../support/openai-conformance.ts';
import { openReceiver, type Receiver } from '../support/receivers.ts';
import { openTestRedis } from '../support/redis.ts';
import { openStack } from '../support/stack.ts';
import { startWorkerdEdge } from '../support/workerd-edge.ts';

const env = { ALLOW_INSECURE_WEBHOOKS: 'true' };

/** One system, seen through an edge on Node and through one in workerd. */
async function openBothEdges() {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await openTestRedis());
  const [node, workerd] = await Promise.all([
    openStack({ REDIS_URL: redis.url, ...env }),
    startWorkerdEdge({ redisUrl: redis.url, env }),
  ]);
  stack.use(node);
  stack.use(workerd);
  const receiver = stack.use(await openReceiver());
  const all = stack.move();
  const edges: Record<'node' | 'workerd', Service> = { node, workerd };
  return { ...edges, receiver, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

const opening = openBothEdges();
afterAll(async () => (await opening)[Symbol.asyncDispose]());

const endpoint = '/v1/completions';
const body = { model: 'stories-target', prompt: 'Once upon a time', seed: 7, max_tokens: 24 };
/** Long enough that it is still running when somebody looks. */
const endless = { ...body, max_tokens: 400, ignore_eos: true, n: 8 };

describe.each(['node', 'workerd'] as const)('jobs at the edge in %s', (platform) => {
  let url: string;
  let receiver: Receiver;
  beforeAll(async () => {
    const both = await opening;
    ({ url } = both[platform]);
    ({ receiver } = both);
  });

  async function call(method: string, path: string, fields?: object, headers = {}) {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(fields && { body: JSON.stringify(fields) }),
    });
    return { status: response.status, headers: response.headers, body: await jsonOf(response) };
  }

  const submit = (fields: object = {}, headers: Record<string, string> = {}) =>
    call('POST', '/v1/jobs', { endpoint, body, ...fields }, headers);
  const statusOf = async (id: string) => (await call('GET', `/v1/jobs/${id}`)).body.status;

  it('gives the very bytes of the plain endpoint, at once or later, to reader and listener', async () => {
    const { body: plain } = await call('POST', endpoint, body);
    const { status, body: queued } = await submit();
    expect(status).toBe(202);
    const done = await call('GET', `/v1/jobs/${queued.id}`, undefined, { prefer: 'wait=30' });

    const { prompt_tokens, completion_tokens } = plain.usage; // how many were drafted may differ
    const usage = { prompt_tokens, completion_tokens };
    expect(done.body).toMatchObject({ status: 'succeeded', usage });
    expect(done.body.result.choices).toEqual(plain.choices);
    expect(done.body.result.system_fingerprint).toBe(plain.system_fingerprint);
    const stream = await fetch(`${url}/v1/requests/${queued.id}/events`);
    const frames = parseFrames(await stream.text());
    const text = frames.map(({ data }) => data.choices?.[0]?.text ?? '').join('');
    expect(text).toBe(plain.choices[0].text);
  });

  it('waits for the end where the client prefers that', async () => {
    const { status, headers, body: done } = await submit({}, { prefer: 'wait=30' });
    expect(status).toBe(200);
    expect(headers.get('preference-applied')).toBe('wait=30');
    expect(done.status).toBe('succeeded');
  });

  it('cancels, and forgets what has ended', async () => {
    const { body: queued } = await submit({ body: endless });
    await expect.poll(() => statusOf(queued.id), { timeout: 20_000 }).toBe('running');
    expect((await call('DELETE', `/v1/jobs/${queued.id}`)).status).toBe(409);
    expect((await call('POST', `/v1/jobs/${queued.id}/cancel`)).status).toBe(200);
    await expect.poll(() => statusOf(queued.id), { timeout: 20_000 }).toBe('cancelled');

    expect((await call('DELETE', `/v1/jobs/${queued.id}`)).body.deleted).toBe(true);
    expect((await call('GET', `/v1/jobs/${queued.id}`)).status).toBe(404);
  });

  it('ends a job at its deadline, with what there is of it', async () => {
    const { body: queued } = await submit({ body: endless, expires_in: 0.5 });
    await expect.poll(() => statusOf(queued.id), { timeout: 20_000 }).toBe('expired');
    const { body: expired } = await call('GET', `/v1/jobs/${queued.id}`);
    expect(expired.result.choices[0].finish_reason).toBe('length');
  });

  it('tells a receiver, lists what it told, and tells it again', async () => {
    const webhook = {
      url: receiver.url,
      events: ['job.started', 'job.succeeded'],
      payload: 'full',
    };
    const metadata = { platform };
    const { body: queued } = await submit({ webhook, metadata });
    const received = () =>
      receiver.received.filter(({ body: text }) => JSON.parse(text).data.id === queued.id);
    await expect.poll(() => received().length, { timeout: 20_000 }).toBe(2);

    for (const each of received()) verifyDelivery(each, queued.webhook.secret);
    const last = JSON.parse(received().at(-1)!.body);
    const { body: done } = await call('GET', `/v1/jobs/${queued.id}`);
    expect(last).toMatchObject({ type: 'job.succeeded', data: { metadata, result: done.result } });

    const deliveries = async () =>
      (await call('GET', `/v1/jobs/${queued.id}/deliveries`)).body.data;
    await expect.poll(async () => (await deliveries()).length).toBe(2);
    expect((await deliveries())[1]).toMatchObject({
      webhook_id: last.id,
      status: 204,
      error: null,
    });
    const again = `/v1/jobs/${queued.id}/deliveries/${last.id}/redeliver`;
    expect((await call('POST', again)).status).toBe(202);
    await expect.poll(() => received().length, { timeout: 20_000 }).toBe(3);
    expect(received().at(-1)?.headers['webhook-id']).toBe(last.id);
    expect(verifyDelivery(received().at(-1)!, queued.webhook.secret)).toEqual(last);
  });

  it('lists events that a receiver missed', async () => {
    const { body: queued } = await submit({}, { prefer: 'wait=30' });
    const typesOf = async () => {
      const { body: page } = await call('GET', '/v1/events?limit=1000');
      const own = page.data.filter(({ data }: { data: { id: string } }) => data.id === queued.id);
      return own.map(({ type }: { type: string }) => type);
    };
    const types = ['job.queued', 'job.started', 'job.succeeded'];
    await expect.poll(typesOf, { timeout: 10_000 }).toEqual(types);
  });

  it('lists jobs by what was noted on them', async () => {
    const metadata = { list: `of ${platform}` };
    const { body: queued } = await call('POST', endpoint, { ...body, background: true, metadata });
    const { body: page } = await call('GET', `/v1/jobs?metadata[list]=of%20${platform}`);
    expect(page.data).toMatchObject([{ id: queued.id, metadata, webhook: null }]);
  });

  it('names what is wrong', async () => {
    const { status, body: answer } = await submit({ body: { ...body, temperature: 9 } });
    expect(status).toBe(400);
    expect(answer.error).toMatchObject({ param: 'body.temperature' });
    const { body: refused } = await submit({ webhook: { url: 'https://user@example.com/' } });
    expect(refused.error).toMatchObject({ param: 'webhook.url' });
  });
});
