import { setTimeout as sleep } from 'node:timers/promises';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { type TenantId, toTenantId } from '../../shared/ids.ts';
import type { Batch, BatchSpec } from '../../shared/protocol/batch.ts';
import { createFileId, createTimedHex, FILE_CHUNK_BYTES } from '../../shared/protocol/file.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { register } from '../../worker/queue/registry.ts';
import { openTestRedis, type TestRedis } from './redis.ts';
import { ScriptedGenerator } from './scripted-generator.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { openTestWorker } from './workers.ts';

const endpoint = '/v1/completions';
export const DAY_MS = 86_400_000;

export const lineOf = (i: number) => ({
  custom_id: `line-${i}`,
  method: 'POST',
  url: endpoint,
  // Long enough that lines lie across pieces of the file.
  body: { model: storiesCard.name, prompt: 'Once', user: 'u'.repeat(3000), max_tokens: 2 },
});

/** Batches in a Redis of their own, with a worker whose steps are in the test's hand. */
export class TestBatches implements AsyncDisposable {
  readonly redis: TestRedis;
  readonly transport: RedisTransport;
  readonly generator = new ScriptedGenerator('by-hand');
  readonly #stack: AsyncDisposableStack;

  private constructor(stack: AsyncDisposableStack, redis: TestRedis, transport: RedisTransport) {
    this.#stack = stack;
    this.redis = redis;
    this.transport = transport;
  }

  static async open(): Promise<TestBatches> {
    const stack = new AsyncDisposableStack();
    const redis = stack.use(await openTestRedis());
    const transport = stack.use(await openRedisTransport(redis.url));
    const batches = new TestBatches(stack, redis, transport);
    const { name: model, fingerprint } = storiesCard;
    const queue = { model, fingerprint, class: 'batch' } as const;
    stack.use(await openTestWorker(redis.url, batches.generator, { queue }));
    const registration = {
      card: storiesCard,
      tokenizerFiles: storiesFiles,
      workerId: 'worker',
      ratePerSecond: () => 0,
    };
    stack.use(await register(redis.client, redis.client, new Keys(), registration));
    return batches;
  }

  /** What a client asks for, with its input uploaded. */
  async specOf(numLines: number, tenant: TenantId = toTenantId('ann')): Promise<BatchSpec> {
    const lines = Array.from({ length: numLines }, (_, i) => `${JSON.stringify(lineOf(i))}\n`);
    const createdMs = Date.now();
    return {
      version: 1,
      id: `batch_${createTimedHex(createdMs)}`,
      tenant,
      inputFileId: await this.#upload(lines.join(''), tenant),
      endpoint,
      metadata: null,
      webhook: null,
      createdMs,
      expiresMs: createdMs + DAY_MS,
      outputLifeMs: DAY_MS,
    };
  }

  async #upload(text: string, tenant: TenantId): Promise<string> {
    const { files } = this.transport;
    const bytes = new TextEncoder().encode(text);
    const createdMs = Date.now();
    const id = createFileId(createdMs);
    let numPieces = 0;
    for (let start = 0; start < bytes.length; start += FILE_CHUNK_BYTES) {
      await files.append(id, numPieces, bytes.subarray(start, start + FILE_CHUNK_BYTES));
      numPieces += 1;
    }
    const file = { id, tenant, filename: 'in.jsonl', purpose: 'batch', createdMs } as const;
    await files.seal({ ...file, expiresMs: createdMs + DAY_MS, numBytes: bytes.length }, numPieces);
    return id;
  }

  /** @returns its id */
  async create(numLines: number, overrides: Partial<BatchSpec> = {}): Promise<string> {
    const spec = { ...(await this.specOf(numLines, overrides.tenant)), ...overrides };
    await this.transport.batches.create(spec, 100);
    return spec.id;
  }

  async find(id: string): Promise<Batch> {
    const batch = await this.transport.batches.find(id);
    if (batch === null) throw new Error(`no batch ${id}`);
    return batch;
  }

  /** Lets the worker work until the batch is as it should be. */
  async workUntil(id: string, isThere: (batch: Batch) => boolean): Promise<Batch> {
    for (;;) {
      const batch = await this.find(id);
      if (isThere(batch)) return batch;
      this.generator.step();
      await sleep(2);
    }
  }

  async textOf(fileId: string): Promise<string> {
    let text = '';
    const decoder = new TextDecoder();
    for (let next = 0; ; ) {
      const pieces = await this.transport.files.read(fileId, next);
      if (pieces.length === 0) return text;
      next += pieces.length;
      for (const piece of pieces) text += decoder.decode(piece, { stream: true });
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
