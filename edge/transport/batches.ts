import { z } from 'zod';
import type { TenantId } from '../../shared/ids.ts';
import {
  BATCH_STATUSES,
  type Batch,
  type BatchError,
  type BatchProgress,
  type BatchSpec,
  type BatchStatus,
  batchFileId,
  batchSchema,
  batchSpecSchema,
} from '../../shared/protocol/batch.ts';
import {
  CANCEL_BATCH,
  CLAIM_BATCH,
  COMMIT_BATCH,
  CREATE_BATCH,
  END_BATCH,
  ENTER_BATCH,
} from '../../shared/protocol/batch-scripts.ts';
import type { StoredFile } from '../../shared/protocol/file.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import { idsInOrder } from './files.ts';
import type { Reach } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';

export interface BatchQuery {
  readonly tenant: TenantId;
  readonly after: string | null;
  readonly limit: number;
}

/** What clients want of batches. All calls may be sent again. */
export interface BatchStore {
  /** Makes a batch known and queues it for a runner. */
  create(spec: BatchSpec): Promise<void>;
  find(id: string): Promise<Batch | null>;
  /** Newest first. */
  list(query: BatchQuery): Promise<readonly Batch[]>;
  /** Ends a batch as soon as its runner hears of it; one that has ended stays as it is. */
  cancel(id: string): Promise<void>;
}

/** Where a writer stands: only `ok` wrote, or had written. */
export interface LedgerReply {
  readonly type: 'ok' | 'fenced' | 'unknown';
  /** `cancelling` once a client wants no more. */
  readonly status: BatchStatus;
}

export interface Commit {
  readonly progress: Omit<BatchProgress, 'outputBytes' | 'errorBytes'>;
  /** Lines of the two files. */
  readonly output: string;
  readonly errors: string;
}

export interface BatchEnd {
  readonly status: 'failed' | 'completed' | 'expired' | 'cancelled';
  readonly errors: readonly BatchError[];
  readonly output: StoredFile;
  readonly errorOutput: StoredFile;
}

/** What a runner writes, each under the epoch of its claim: an older one is refused. */
export interface BatchLedger {
  /** Fences out whoever ran it before. @returns `null` for a batch that is no longer kept */
  claim(id: string): Promise<Batch | null>;
  enter(batch: Batch, status: 'in_progress' | 'finalizing', numLines: number): Promise<LedgerReply>;
  /** Writes results and how far they reach, both or neither. */
  commit(batch: Batch, commit: Commit): Promise<LedgerReply>;
  /** Ends it and makes what it has written visible. Files without a line are not made. */
  end(batch: Batch, end: BatchEnd): Promise<LedgerReply>;
  markNotified(id: string): Promise<void>;
}

const DAY_MS = 24 * 3_600_000;
/** A batch can be looked at for so long after its window, and its output as long as asked for. */
const KEEP_MS = 30 * DAY_MS;

const replySchema = z
  .tuple([z.enum(['ok', 'fenced', 'unknown']), z.enum(BATCH_STATUSES)])
  .transform(([type, status]): LedgerReply => ({ type, status }));

/** Batches in Redis, with the queue that hands them to runners. */
export class RedisBatches implements BatchStore, BatchLedger {
  readonly #client: RedisClient;
  readonly #reach: Reach;
  readonly #keys: Keys;
  readonly #queue: (batchId: string) => Promise<void>;

  /** @param queue adds a batch to the queue; twice is once */
  constructor(
    client: RedisClient,
    { reach, keys }: { readonly reach: Reach; readonly keys: Keys },
    queue: (batchId: string) => Promise<void>,
  ) {
    this.#client = client;
    this.#reach = reach;
    this.#keys = keys;
    this.#queue = queue;
  }

  async create(spec: BatchSpec): Promise<void> {
    const args = [JSON.stringify(spec), keptUntilMs(spec)];
    await this.#run(CREATE_BATCH, [this.#keys.batch(spec.id)], args);
    await this.#queue(spec.id);
    const index = this.#keys.batchesOf(spec.tenant);
    await this.#reach.call(() => this.#client.zadd(index, 0, spec.id));
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

  async markNotified(id: string): Promise<void> {
    const state = this.#keys.batch(id);
    await this.#reach.call(() => this.#client.hset(state, 'notified', '1'));
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
