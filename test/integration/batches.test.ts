import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runBatch } from '../../edge/batches/batch-run.ts';
import { createModelCatalog } from '../../edge/catalog.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { toTenantId } from '../../shared/ids.ts';
import type { Batch, BatchSpec } from '../../shared/protocol/batch.ts';
import { createFileId, createTimedHex, FILE_CHUNK_BYTES } from '../../shared/protocol/file.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { register } from '../../worker/queue/registry.ts';
import { startBatchRunner } from '../support/batch-runner.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator } from '../support/scripted-generator.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { openTestWorker } from '../support/workers.ts';

const tenant = toTenantId('ann');
const endpoint = '/v1/completions';
const keys = new Keys();
const DAY_MS = 86_400_000;

let redis: TestRedis;
let transport: RedisTransport;
let generator: ScriptedGenerator;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  transport = stack.use(await openRedisTransport(redis.url));
  generator = new ScriptedGenerator('by-hand');
  const { name: model, fingerprint } = storiesCard;
  const queue = { model, fingerprint, class: 'batch' } as const;
  stack.use(await openTestWorker(redis.url, generator, { queue }));
  const registration = { tokenizerFiles: storiesFiles, workerId: 'worker', ratePerSecond: () => 0 };
  stack.use(
    await register(redis.client, redis.client, keys, { card: storiesCard, ...registration }),
  );
});
afterAll(() => stack.disposeAsync());

const lineOf = (i: number) => ({
  custom_id: `line-${i}`,
  method: 'POST',
  url: endpoint,
  // Long enough that lines lie across pieces of the file.
  body: { model: storiesCard.name, prompt: 'Once', user: 'u'.repeat(3000), max_tokens: 2 },
});

async function createBatch(numLines: number): Promise<string> {
  const text = Array.from({ length: numLines }, (_, i) => `${JSON.stringify(lineOf(i))}\n`).join(
    '',
  );
  const bytes = new TextEncoder().encode(text);
  const createdMs = Date.now();
  const id = createFileId(createdMs);
  let numPieces = 0;
  for (let start = 0; start < bytes.length; start += FILE_CHUNK_BYTES) {
    await transport.files.append(id, numPieces, bytes.subarray(start, start + FILE_CHUNK_BYTES));
    numPieces += 1;
  }
  const file = { id, tenant, filename: 'in.jsonl', purpose: 'batch', createdMs } as const;
  const numBytes = bytes.length;
  await transport.files.seal({ ...file, expiresMs: createdMs + DAY_MS, numBytes }, numPieces);
  const spec: BatchSpec = {
    version: 1,
    id: `batch_${createTimedHex(createdMs)}`,
    tenant,
    inputFileId: id,
    endpoint,
    metadata: null,
    webhook: null,
    createdMs,
    expiresMs: createdMs + DAY_MS,
    outputLifeMs: DAY_MS,
  };
  await transport.batches.create(spec);
  return spec.id;
}

async function find(id: string): Promise<Batch> {
  const batch = await transport.batches.find(id);
  if (batch === null) throw new Error(`no batch ${id}`);
  return batch;
}

/** Lets the workers work until the batch is as it should be. */
async function workUntil(id: string, isThere: (batch: Batch) => boolean): Promise<Batch> {
  for (;;) {
    const batch = await find(id);
    if (isThere(batch)) return batch;
    generator.step();
    await sleep(2);
  }
}

async function linesOf(fileId: string | null) {
  if (fileId === null) return [];
  let text = '';
  const decoder = new TextDecoder();
  for (let next = 0; ; ) {
    const pieces = await transport.files.read(fileId, next);
    if (pieces.length === 0) break;
    next += pieces.length;
    for (const piece of pieces) text += decoder.decode(piece, { stream: true });
  }
  const file = await transport.files.find(fileId);
  expect(file?.numBytes).toBe(Buffer.byteLength(text));
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function runHere(id: string, now: () => number = Date.now) {
  return runBatch(id, {
    transport,
    batches: transport.batches,
    catalog: createModelCatalog(),
    notify: async () => undefined,
    window: 4,
    now,
    log: () => undefined,
    stopped: new AbortController().signal,
  });
}

describe('batches', () => {
  it('are done to the last line, each once, however often their runner is killed', async () => {
    const numLines = 200;
    const id = await createBatch(numLines);
    const numStartsBefore = generator.starts.length;
    const reached: number[] = [];
    for (const target of [60, 130]) {
      await using runner = await startBatchRunner(redis.url, { BATCH_WINDOW: '8' });
      const batch = await workUntil(id, ({ progress }) => progress.nextLine >= target);
      reached.push(batch.progress.nextLine);
      expect(batch.status).toBe('in_progress');
      await runner.stop('SIGKILL');
    }
    await using last = await startBatchRunner(redis.url, { BATCH_WINDOW: '8' });
    const batch = await workUntil(id, ({ status }) => status === 'completed');

    expect(reached.every((line) => line < numLines)).toBe(true);
    expect(batch.epoch).toBe(3);
    expect(batch.progress).toMatchObject({ numCompleted: numLines, numFailed: 0 });
    const lines = await linesOf(batch.outputFileId);
    expect(lines.map((line) => line.custom_id)).toEqual(
      Array.from({ length: numLines }, (_, i) => `line-${i}`),
    );
    expect(new Set(lines.map(({ response }) => response.request_id)).size).toBe(numLines);
    // What was under way when a runner died was not begun again: its answer was waited for.
    expect(generator.starts.length - numStartsBefore).toBe(numLines);
    expect(batch.errorFileId).toBeNull();
    expect(await last.stop('SIGTERM')).toBe(0);
  });

  it('hold no line in the data of any queue', async () => {
    const id = await createBatch(20);
    const running = runHere(id);
    await generator.started(generator.starts.length + 1);
    const names = await redis.client.keys('*');
    const ofQueues = names.filter((each) => /:(batch|batches|requests):/.test(each));
    expect(ofQueues).toContainEqual(expect.stringContaining(`:batches:${id}`));
    for (const name of ofQueues) {
      const data =
        (await redis.client.type(name)) === 'hash' ? await redis.client.hgetall(name) : {};
      expect(JSON.stringify(data)).not.toContain('Once');
    }
    await workUntil(id, ({ status }) => status === 'completed');
    await running;
  });

  it('keep what is done when they are cancelled', async () => {
    const id = await createBatch(60);
    const running = runHere(id);
    await workUntil(id, ({ progress }) => progress.nextLine >= 10);
    await transport.batches.cancel(id);
    expect((await find(id)).status).toBe('cancelling');
    const batch = await workUntil(id, ({ status }) => status === 'cancelled');

    expect(await running).toBe('ended');
    const lines = await linesOf(batch.outputFileId);
    expect(lines).toHaveLength(batch.progress.numCompleted);
    expect(lines.length).toBeGreaterThanOrEqual(10);
    expect(lines.length).toBeLessThan(60);
    expect(batch.errorFileId).toBeNull();
    expect(generator.numRunning).toBe(0);
  });

  it('list what their window was too short for', async () => {
    const id = await createBatch(40);
    let lateMs = 0;
    const running = runHere(id, () => Date.now() + lateMs);
    await workUntil(id, ({ progress }) => progress.nextLine >= 10);
    lateMs = 2 * DAY_MS;
    const isAnyCancelled = () => generator.starts.some((start) => generator.isCancelled(start.id));
    await expect.poll(isAnyCancelled, { timeout: 10_000 }).toBe(true);
    const batch = await workUntil(id, ({ status }) => status === 'expired');

    expect(await running).toBe('ended');
    const done = await linesOf(batch.outputFileId);
    const expired = await linesOf(batch.errorFileId);
    expect(done.length).toBeGreaterThanOrEqual(10);
    expect(new Set([...done, ...expired].map((line) => line.custom_id)).size).toBe(40);
    expect(done.length + expired.length).toBe(40);
    expect(expired[0]).toMatchObject({ response: null, error: { code: 'batch_expired' } });
    expect(batch.progress).toMatchObject({ numCompleted: done.length, numFailed: expired.length });
  });

  it('fail when their input is deleted under them', async () => {
    const id = await createBatch(200);
    const running = runHere(id);
    const { spec } = await workUntil(id, ({ progress }) => progress.nextLine >= 10);
    await transport.files.remove({ id: spec.inputFileId, tenant });
    const batch = await workUntil(id, ({ status }) => status === 'failed');

    expect(await running).toBe('ended');
    expect(batch.errors).toMatchObject([{ code: 'input_file_lost' }]);
    expect(await linesOf(batch.outputFileId)).toHaveLength(batch.progress.numCompleted);
  });

  it('are written by one runner alone', async () => {
    const id = await createBatch(5);
    const [older, newer] = [await transport.batches.claim(id), await transport.batches.claim(id)];
    const counts = { nextLine: 1, byteOffset: 10, numCompleted: 1, numFailed: 0 };
    const commit = { progress: counts, output: 'a\n', errors: '' };
    expect(await transport.batches.commit(older!, commit)).toMatchObject({ type: 'fenced' });
    expect(await transport.batches.commit(newer!, commit)).toMatchObject({ type: 'ok' });
    expect(await transport.batches.commit(newer!, commit)).toMatchObject({ type: 'ok' });
    expect((await find(id)).progress).toMatchObject({ ...counts, outputBytes: 2 });
  });
});
