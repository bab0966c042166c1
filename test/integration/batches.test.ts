import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runBatch } from '../../edge/batches/batch-run.ts';
import { createModelCatalog } from '../../edge/catalog.ts';
import type { RedisTransport } from '../../edge/transport/redis-transport.ts';
import { toTenantId } from '../../shared/ids.ts';
import { startBatchRunner } from '../support/batch-runner.ts';
import { DAY_MS, TestBatches } from '../support/batches.ts';
import type { TestRedis } from '../support/redis.ts';
import type { ScriptedGenerator } from '../support/scripted-generator.ts';

const tenant = toTenantId('ann');
let batches: TestBatches;
let redis: TestRedis;
let transport: RedisTransport;
let generator: ScriptedGenerator;

beforeAll(async () => {
  batches = await TestBatches.open();
  ({ redis, transport, generator } = batches);
});
afterAll(() => batches[Symbol.asyncDispose]());

const find = (id: string) => batches.find(id);
const createBatch = (numLines: number) => batches.create(numLines);
const workUntil: TestBatches['workUntil'] = (id, isThere) => batches.workUntil(id, isThere);

async function linesOf(fileId: string | null) {
  if (fileId === null) return [];
  const text = await batches.textOf(fileId);
  expect((await transport.files.find(fileId))?.numBytes).toBe(Buffer.byteLength(text));
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

function runHere(id: string, now: () => number = Date.now, maxTenantBytes = 1_000_000) {
  return runBatch(id, {
    transport,
    batches: transport.batches,
    catalog: createModelCatalog(),
    notify: async () => undefined,
    window: 4,
    maxTenantBytes,
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

  it('fail when it is deleted before they are read, and not for being empty', async () => {
    const id = await createBatch(20);
    await transport.files.remove({ id: (await find(id)).spec.inputFileId, tenant });
    expect(await runHere(id)).toBe('ended');
    expect(await find(id)).toMatchObject({
      status: 'failed',
      errors: [{ code: 'input_file_lost', param: 'input_file_id' }],
    });
  });

  it('count their output while they run, and end where there is no room for more', async () => {
    const other = toTenantId('bob');
    const id = await batches.create(200, { tenant: other });
    const limits = { maxFiles: 10, maxBytes: 20_000 };
    const running = runHere(id, Date.now, limits.maxBytes);
    await workUntil(id, ({ progress }) => progress.outputBytes > 1000);
    const { expiresMs } = (await find(id)).spec;
    const upload = { id: 'file-x', tenant: other, expiresMs, numBytes: 19_500, ...limits };
    await expect(transport.files.admit(upload)).rejects.toThrow('the limit is 20000 bytes');

    const batch = await workUntil(id, ({ status }) => status === 'failed');
    expect(await running).toBe('ended');
    expect(batch.errors).toMatchObject([{ code: 'storage_limit_exceeded' }]);
    expect(await linesOf(batch.outputFileId)).toHaveLength(batch.progress.numCompleted);
    expect(batch.progress.outputBytes).toBeLessThanOrEqual(20_000);
    while (generator.numRunning > 0) generator.step();
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
