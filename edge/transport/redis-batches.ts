import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import {
  BATCH_STATUSES,
  type Batch,
  type BatchSpec,
  batchFileId,
  batchSchema,
  batchSpecSchema,
} from '../../shared/protocol/batch.ts';
import {
  ADMIT_BATCH,
  CANCEL_BATCH,
  CLAIM_BATCH,
  COMMIT_BATCH,
  CREATE_BATCH,
  END_BATCH,
  ENTER_BATCH,
} from '../../shared/protocol/batch-scripts.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { TAKE_DUE } from '../../shared/protocol/notice-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import type {
  BatchEnd,
  BatchLedger,
  BatchQuery,
  BatchStore,
  Commit,
  DueBatches,
  LedgerReply,
} from './batches.ts';
import { idsInOrder } from './files.ts';
import type { Reach } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';
import type { RequestQueues } from './request-queues.ts';

const DAY_MS = 24 * 3_600_000;
/** A batch can be looked at for so long after its window, and its output as long as asked for. */
const KEEP_MS = 30 * DAY_MS;
/** After its window, a batch that nobody ended counts no longer among its tenant's. */
const COUNT_MS = DAY_MS;
/** One whose edge died before it was queued is looked at after this long. */
const LOOK_AFTER_MS = 10_000;
const TAKEN_FOR_MS = 60_000;
const MAX_TAKEN = 16;

const replySchema = z
  .tuple([z.enum(['ok', 'fenced', 'unknown']), z.enum(BATCH_STATUSES)])
  .transform(([type, status]): LedgerReply => ({ type, status }));

export interface BatchesContext {
  readonly client: RedisClient;
  readonly reach: Reach;
  readonly keys: Keys;
  readonly queues: RequestQueues;
}

/** Batches in Redis, with the queue that hands them to runners. */
export class RedisBatches implements BatchStore, BatchLedger, DueBatches {
  readonly #client: RedisClient;
  readonly #reach: Reach;
  readonly #keys: Keys;
  readonly #queues: RequestQueues;

  constructor({ client, reach, keys, queues }: BatchesContext) {
    this.#client = client;
    this.#reach = reach;
    this.#keys = keys;
    this.#queues = queues;
  }

  /** Whatever is lost on the way, one who sees to due batches finds it: that is written first. */
  async create(spec: BatchSpec, maxOpen: number): Promise<void> {
    const { id, tenant } = spec;
    const place = await this.#admit(spec, maxOpen);
    await this.#dueAt(id, Date.now() + LOOK_AFTER_MS);
    const args = [JSON.stringify(spec), keptUntilMs(spec)];
    await this.#run(CREATE_BATCH, [this.#keys.batch(id)], args);
    await this.#queues.addTo(this.#keys.batchQueue, id, place + 1);
    await this.#reach.call(() => this.#client.zadd(this.#keys.batchesOf(tenant), 0, id));
  }

  /** @returns its place among the open batches of its tenant, from 0 */
  async #admit({ id, tenant, expiresMs }: BatchSpec, maxOpen: number): Promise<number> {
    const args = [id, expiresMs + COUNT_MS, Date.now(), maxOpen];
    const reply = await this.#run(ADMIT_BATCH, [this.#keys.openBatchesOf(tenant)], args);
    const place = z.int().parse(reply);
    if (place >= 0) return place;
    throw new PlatformError('rate_limit_exceeded', `${maxOpen} batches of yours are open already`);
  }

  #dueAt(id: string, atMs: number): Promise<unknown> {
    return this.#reach.call(() => this.#client.zadd(this.#keys.dueBatches, atMs, id));
  }

  async find(id: string): Promise<Batch | null> {
    const state = await this.#reach.call(() => this.#client.hgetall(this.#keys.batch(id)));
    return decodeBatch(state);
  }

  async list({ tenant, after, limit }: BatchQuery): Promise<readonly Batch[]> {
    const index = this.#keys.batchesOf(tenant);
    const batches: Batch[] = [];
    for (let last = after; ; ) {
      const query = { index, after: last, isNewestFirst: true, count: limit };
      const ids = await idsInOrder(this.#client, this.#reach, query);
      const found = await Promise.all(ids.map((id) => this.find(id)));
      batches.push(...found.filter((batch) => batch !== null));
      const gone = ids.filter((_, i) => found[i] === null);
      if (gone.length > 0) await this.#reach.call(() => this.#client.zrem(index, ...gone));
      if (ids.length < limit || batches.length >= limit) return batches.slice(0, limit);
      last = ids.at(-1) ?? null;
    }
  }

  async cancel(id: string): Promise<void> {
    await this.#run(CANCEL_BATCH, [this.#keys.batch(id)], []);
    await this.#reach.call(() => this.#client.zadd(this.#keys.dueBatches, 'XX', 0, id));
  }

  async take(): Promise<readonly string[]> {
    const args = [MAX_TAKEN, TAKEN_FOR_MS];
    return z.array(z.string()).parse(await this.#run(TAKE_DUE, [this.#keys.dueBatches], args));
  }

  isRunning(id: string): Promise<boolean> {
    return this.#queues.isActive(this.#keys.batchQueue, id);
  }

  async wait({ id, tenant, expiresMs }: BatchSpec): Promise<void> {
    const open = this.#keys.openBatchesOf(tenant);
    const place = await this.#reach.call(() => this.#client.zrank(open, id));
    await this.#queues.addTo(this.#keys.batchQueue, id, (place ?? 0) + 1);
    await this.#dueAt(id, expiresMs);
  }

  async drop(id: string): Promise<void> {
    await this.#reach.call(() => this.#client.zrem(this.#keys.dueBatches, id));
  }

  async claim(id: string): Promise<Batch | null> {
    const epoch = await this.#run(CLAIM_BATCH, [this.#keys.batch(id)], []);
    const batch = epoch === 0 ? null : await this.find(id);
    // Another claim may have come between the two: we are fenced then, under our own number.
    return batch === null ? null : { ...batch, epoch: z.int().parse(epoch) };
  }

  async enter(
    { spec, epoch }: Batch,
    status: 'in_progress' | 'finalizing',
    numLines: number,
  ): Promise<LedgerReply> {
    const args = [epoch, status, 'numLines', numLines];
    return replySchema.parse(await this.#run(ENTER_BATCH, [this.#keys.batch(spec.id)], args));
  }

  async commit({ spec, epoch }: Batch, { progress, output, errors }: Commit): Promise<LedgerReply> {
    const { nextLine, byteOffset, numCompleted, numFailed } = progress;
    const counts = [nextLine, byteOffset, numCompleted, numFailed];
    const args = [epoch, keptUntilMs(spec), ...counts, output, errors];
    const keys = [this.#keys.batch(spec.id), ...this.#filesOf(spec.id).map(({ chunks }) => chunks)];
    return replySchema.parse(await this.#run(COMMIT_BATCH, keys, args));
  }

  async end({ spec, epoch }: Batch, end: BatchEnd): Promise<LedgerReply> {
    const { output, errorOutput } = end;
    const files = [output, errorOutput].flatMap((file) => [file.id, JSON.stringify(file)]);
    const args = [epoch, end.status, ...files, output.expiresMs, JSON.stringify(end.errors)];
    const fileKeys = this.#filesOf(spec.id).flatMap(({ chunks, meta }) => [chunks, meta]);
    const keys = [this.#keys.batch(spec.id), ...fileKeys];
    return replySchema.parse(await this.#run(END_BATCH, keys, args));
  }

  async close({ id, tenant }: BatchSpec): Promise<void> {
    await this.#reach.call(() => this.#client.hset(this.#keys.batch(id), 'notified', '1'));
    await this.#reach.call(() => this.#client.zrem(this.#keys.openBatchesOf(tenant), id));
    await this.drop(id);
  }

  #filesOf(id: string) {
    const kinds = ['output', 'errors'] as const;
    return kinds.map((kind) => this.#keys.file(batchFileId(id, kind)));
  }

  #run(
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<unknown> {
    return this.#reach.call(() => runScript(this.#client, script, keys, args));
  }
}

function keptUntilMs({ expiresMs, outputLifeMs }: BatchSpec): number {
  return expiresMs + Math.max(KEEP_MS, outputLifeMs);
}

/** @returns `null` for the state of none */
function decodeBatch(state: Readonly<Record<string, string>>): Batch | null {
  if (state.spec === undefined) return null;
  const timesMs = Object.entries(state)
    .filter(([field]) => field.startsWith('at:'))
    .map(([field, ms]) => [field.slice('at:'.length), Number(ms)]);
  const count = (field: string) => Number(state[field] ?? 0);
  return batchSchema.parse({
    spec: batchSpecSchema.parse(JSON.parse(state.spec)),
    status: state.status,
    epoch: count('epoch'),
    numLines: count('numLines'),
    progress: {
      nextLine: count('nextLine'),
      byteOffset: count('byteOffset'),
      numCompleted: count('numCompleted'),
      numFailed: count('numFailed'),
      outputBytes: count('outputBytes'),
      errorBytes: count('errorBytes'),
    },
    timesMs: Object.fromEntries(timesMs),
    errors: JSON.parse(state.errors ?? '[]'),
    outputFileId: state.outputFileId ?? null,
    errorFileId: state.errorFileId ?? null,
    isNotified: state.notified === '1',
  });
}
