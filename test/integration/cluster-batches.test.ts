import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { FILE_CHUNK_BYTES } from '../../shared/protocol/file.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { connectRedis } from '../../worker/queue/connection.ts';
import { register } from '../../worker/queue/registry.ts';
import { startBatchRunner } from '../support/batch-runner.ts';
import { verifyDelivery } from '../support/deliveries.ts';
import { jsonOf } from '../support/edge.ts';
import { jobOf } from '../support/jobs.ts';
import { openReceiver, type Receiver } from '../support/receivers.ts';
import { openTestCluster } from '../support/redis-cluster.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { openTestWebhooks } from '../support/webhooks.ts';
import { openTestWorker } from '../support/workers.ts';

const { name: model, fingerprint } = storiesCard;
const endpoint = '/v1/completions';
const numLines = 12;
const stack = new AsyncDisposableStack();
let transport: RedisTransport;
let receiver: Receiver;
let app: ReturnType<typeof createApp>;

beforeAll(async () => {
  const { url } = stack.use(await openTestCluster());
  transport = stack.use(await openRedisTransport(url));
  receiver = stack.use(await openReceiver());
  const webhooks = { isInsecureAllowed: true, tenantsWithSecret: new Set<string>() };
  app = createApp(() => transport, { webhooks, log: () => undefined });
  const redis = stack.use(await connectRedis(url));
  const registration = { tokenizerFiles: storiesFiles, workerId: 'worker', ratePerSecond: () => 0 };
  stack.use(
    await register(redis.command, redis.command, new Keys(), {
      card: storiesCard,
      ...registration,
    }),
  );
  for (const jobClass of ['interactive', 'batch'] as const) {
    const queue = { model, fingerprint, class: jobClass };
    stack.use(await openTestWorker(url, new ScriptedGenerator(), { queue }));
  }
  stack.use(await openTestWebhooks(url));
  stack.use(await startBatchRunner(url));
});
afterAll(() => stack.disposeAsync());

const post = async (path: string, body: FormData | object) => {
  const isForm = body instanceof FormData;
  const response = await app.request(path, {
    method: 'POST',
    ...(isForm ? {} : { headers: { 'content-type': 'application/json' } }),
    body: isForm ? body : JSON.stringify(body),
  });
  expect(response.ok).toBe(true);
  return jsonOf(response);
};
const get = async (path: string) => jsonOf(await app.request(path));
const textOf = async (fileId: string) => (await app.request(`/v1/files/${fileId}/content`)).text();

const bodyOf = (seed: number) => ({ model, prompt: 'Once', seed, max_tokens: 4 });
const expectedText = (seed: number) =>
  scriptedText(jobOf({ maxTokens: 4, sampling: { ...jobOf().sampling, seed } }));

async function upload(text: string): Promise<string> {
  const form = new FormData();
  form.set('file', new Blob([text]), 'in.jsonl');
  form.set('purpose', 'batch');
  return (await post('/v1/files', form)).id;
}

/** The one delivery about a job or batch, verified, once it is here. */
async function deliveryOf(id: string, secret: string) {
  const find = () => receiver.received.filter(({ body }) => JSON.parse(body).data.id === id);
  await expect.poll(() => find().length, { timeout: 20_000 }).toBe(1);
  return verifyDelivery(find()[0]!, secret);
}

describe('on a cluster of three nodes', () => {
  it('files and batches go their whole way, and whoever asked for it is told', async () => {
    // Longer than a piece of the store.
    const user = 'u'.repeat(FILE_CHUNK_BYTES / 8);
    const lines = Array.from({ length: numLines }, (_, i) => ({
      custom_id: `line-${i}`,
      method: 'POST',
      url: endpoint,
      body: { ...bodyOf(i), user, ...(i === 5 && { max_tokens: -1 }) },
    }));
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    const inputFileId = await upload(text);
    expect(await textOf(inputFileId)).toBe(text);

    const webhook = { url: receiver.url, events: ['batch.completed'] };
    const { id, webhook: shown } = await post('/v1/batches', {
      input_file_id: inputFileId,
      endpoint,
      completion_window: '24h',
      webhook,
    });
    expect(await deliveryOf(id, shown.secret)).toMatchObject({ type: 'batch.completed' });

    const batch = await get(`/v1/batches/${id}`);
    expect(batch).toMatchObject({
      status: 'completed',
      request_counts: { total: numLines, completed: numLines - 1, failed: 1 },
    });
    const answers = (await textOf(batch.output_file_id))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const seeds = lines.map((_, i) => i).filter((i) => i !== 5);
    expect(answers.map((line) => line.custom_id)).toEqual(seeds.map((i) => `line-${i}`));
    expect(answers.map(({ response }) => response.body.choices[0].text)).toEqual(
      seeds.map(expectedText),
    );
    expect(await textOf(batch.error_file_id)).toContain('max_tokens');

    const files = (await get('/v1/files')).data.map((file: { id: string }) => file.id);
    expect(files.toSorted()).toEqual(
      [inputFileId, batch.output_file_id, batch.error_file_id].toSorted(),
    );
    expect((await get('/v1/batches')).data).toMatchObject([{ id }]);
    await app.request(`/v1/files/${inputFileId}`, { method: 'DELETE' });
    expect((await app.request(`/v1/files/${inputFileId}`)).status).toBe(404);
  });

  it('jobs tell of themselves, wherever their keys are', async () => {
    const events = ['job.succeeded'];
    const webhook = { url: receiver.url, events, payload: 'full' };
    const jobs = await Promise.all(
      Array.from({ length: 8 }, (_, i) => post('/v1/jobs', { endpoint, body: bodyOf(i), webhook })),
    );
    for (const [i, job] of jobs.entries()) {
      const { type, data } = await deliveryOf(job.id, job.webhook.secret);
      expect(type).toBe('job.succeeded');
      expect(data.result.choices[0].text).toBe(expectedText(i));
      await expect
        .poll(async () => (await get(`/v1/jobs/${job.id}/deliveries`)).data)
        .toMatchObject([{ type, status: 204 }]);
    }
    expect((await get('/v1/jobs')).data).toHaveLength(8);
    const { data: listed } = await get('/v1/events?limit=1000');
    const told = listed.filter((event: { type: string }) => event.type === 'job.succeeded');
    expect(told.map((event: { data: { id: string } }) => event.data.id).toSorted()).toEqual(
      jobs.map(({ id }) => id).toSorted(),
    );
  });

  it('a delivery that was given up can be asked for again', async () => {
    receiver.respond = (_received, response) => void response.writeHead(410).end();
    const webhook = { url: `${receiver.url}/gone`, events: ['job.succeeded'] };
    const job = await post('/v1/jobs', { endpoint, body: bodyOf(1), webhook });
    await expect
      .poll(async () => (await get('/v1/dead_letters')).data, { timeout: 20_000 })
      .toMatchObject([{ job_id: job.id, status: 410 }]);
    receiver.respond = (_received, response) => void response.writeHead(204).end();
    const [{ webhook_id: webhookId }] = (await get('/v1/dead_letters')).data;
    await post(`/v1/jobs/${job.id}/deliveries/${webhookId}/redeliver`, {});
    await expect
      .poll(async () => (await get('/v1/dead_letters')).data, { timeout: 20_000 })
      .toEqual([]);
  });
});
