import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { verifyDelivery } from '../support/deliveries.ts';
import type { Service } from '../support/openai-conformance.ts';
import { openReceiver, type Receiver } from '../support/receivers.ts';
import { openStack } from '../support/stack.ts';

const model = 'stories-target';
const endpoint = '/v1/completions';
const stack = new AsyncDisposableStack();
let service: Service;
let receiver: Receiver;
let client: OpenAI;

beforeAll(async () => {
  service = stack.use(await openStack({ ALLOW_INSECURE_WEBHOOKS: 'true' }));
  receiver = stack.use(await openReceiver());
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => stack.disposeAsync());

async function upload(lines: readonly object[], headers: Record<string, string> = {}) {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const file = await toFile(Buffer.from(text), 'input.jsonl');
  return client.files.create({ file, purpose: 'batch' }, { headers });
}

/** As OpenAI's client makes it, with the webhook that its type does not know. */
async function create(inputFileId: string, events: readonly string[], payload = 'thin') {
  const webhook = { url: receiver.url, events, payload };
  const batch = await client.batches.create({
    input_file_id: inputFileId,
    endpoint,
    completion_window: '24h',
    ...{ webhook },
  });
  const { secret } = Reflect.get(batch, 'webhook');
  return { id: batch.id, secret };
}

const lineOf = (i: number) => ({
  custom_id: `line-${i}`,
  method: 'POST',
  url: endpoint,
  body: { model, prompt: 'Once upon a time', seed: i, max_tokens: 4 },
});

/** The one delivery about a batch, once it is here. */
async function deliveryOf(id: string) {
  const find = () => receiver.received.filter(({ body }) => JSON.parse(body).data.id === id);
  await expect.poll(() => find().length, { timeout: 20_000 }).toBe(1);
  return find()[0]!;
}

describe('a batch with a webhook', () => {
  it('tells its receiver that it is completed, as the libraries of others expect', async () => {
    const file = await upload([lineOf(0), lineOf(1), lineOf(2)]);
    const { id, secret } = await create(file.id, ['batch.completed']);
    const delivery = await deliveryOf(id);
    const { body, headers } = delivery;

    expect(verifyDelivery(delivery, secret)).toMatchObject({ type: 'batch.completed' });
    const event = await client.webhooks.unwrap(body, headers, secret);
    expect(event).toMatchObject({ object: 'event', type: 'batch.completed', data: { id } });
    expect(event.id).toBe(headers['webhook-id']);
    const forged = body.replace(id, `${id.slice(0, -1)}x`);
    await expect(client.webhooks.unwrap(forged, headers, secret)).rejects.toThrow();

    // By the time it is told, all of it can be read.
    const batch = await client.batches.retrieve(id);
    expect(batch).toMatchObject({ status: 'completed', request_counts: { completed: 3 } });
    const output = await (await client.files.content(batch.output_file_id ?? '')).text();
    expect(output.trim().split('\n')).toHaveLength(3);
  });

  it('tells that it was cancelled, and tells it again', async () => {
    const file = await upload(Array.from({ length: 2000 }, (_, i) => lineOf(i)));
    const { id, secret } = await create(file.id, ['batch.cancelled']);
    await client.batches.cancel(id);
    const first = await deliveryOf(id);
    expect(verifyDelivery(first, secret)).toMatchObject({ type: 'batch.cancelled', data: { id } });

    const deliveries = `${service.url}/v1/batches/${id}/deliveries`;
    const webhookId = first.headers['webhook-id'];
    const again = await fetch(`${deliveries}/${webhookId}/redeliver`, { method: 'POST' });
    expect(again.status).toBe(202);
    const ofBatch = () => receiver.received.filter(({ body }) => body.includes(id));
    await expect.poll(() => ofBatch().length, { timeout: 20_000 }).toBe(2);
    const second = ofBatch()[1]!;
    expect(second.headers['webhook-id']).toBe(webhookId);
    expect(verifyDelivery(second, secret)).toEqual(JSON.parse(first.body));
    const listed = z.object({ data: z.array(z.object({ status: z.number() })) });
    const { data } = listed.parse(await (await fetch(deliveries)).json());
    expect(data).toEqual([{ status: 204 }, { status: 204 }]);
  });

  it('tells the whole of a batch that failed, where that is asked for', async () => {
    const file = await upload([{ ...lineOf(0), url: '/v1/embeddings' }]);
    const { id, secret } = await create(file.id, ['batch.completed', 'batch.failed'], 'full');
    const { body, headers } = await deliveryOf(id);

    const event = await client.webhooks.unwrap(body, headers, secret);
    expect(event).toMatchObject({ type: 'batch.failed', data: { id, object: 'batch' } });
    expect(event.data).toMatchObject({ errors: { data: [{ line: 1, code: 'mismatched_url' }] } });
  });

  it('is one, however often its client tries again', async () => {
    const headers = { 'idempotency-key': 'upload' };
    const files = await Promise.all([upload([lineOf(0)], headers), upload([lineOf(0)], headers)]);
    expect(files[1]).toEqual(files[0]);
    await expect(upload([lineOf(1)], headers)).rejects.toMatchObject({
      status: 422,
      code: 'idempotency_mismatch',
    });
  });
});
