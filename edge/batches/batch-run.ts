import { Buffer } from 'node:buffer';
import { setTimeout as sleep } from 'node:timers/promises';
import { PlatformError } from '../../shared/errors.ts';
import {
  type Batch,
  type BatchError,
  batchFileId,
  isBatchEnded,
  MAX_LINE_BYTES,
} from '../../shared/protocol/batch.ts';
import type { StoredFile } from '../../shared/protocol/file.ts';
import type { ModelCatalog } from '../catalog.ts';
import type { Log } from '../log.ts';
import type {
  BatchEnd,
  BatchLedger,
  BatchStore,
  Commit,
  LedgerReply,
} from '../transport/batches.ts';
import type { Transport } from '../transport/transport.ts';
import { LineLoop } from './line-loop.ts';
import { LineError } from './line-request.ts';
import { bytesFrom, type Line, linesOf, type Place } from './lines.ts';
import { validate } from './validate.ts';

export interface RunContext {
  readonly transport: Transport;
  readonly batches: BatchStore & BatchLedger;
  readonly catalog: ModelCatalog;
  /** Hands over that a batch has ended. May be called more than once. */
  readonly notify: (batch: Batch) => Promise<void>;
  /** Lines that are submitted and not answered. */
  readonly window: number;
  /** What the files of a tenant may take together, with what its batches write. */
  readonly maxTenantBytes: number;
  readonly now: () => number;
  readonly log: Log;
  /** The batch is to be left: another runner goes on where it stands, or this one later. */
  readonly stopped: AbortSignal;
}

/** Somebody else runs the batch, or nobody keeps it. */
export class FencedError extends Error {}

/** The tenant's files have no room for more of the output. */
class NoRoomError extends Error {}

const RETRY_MS = 500;
/** Tries after which the log says again that Redis is away: a minute. */
const LOG_EVERY = 120;
/** What is written counts, and its number is bounded by that of batches. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;

/**
 * Takes a batch from wherever it stands to its end.
 *
 * @returns `released` when it was left for another runner
 */
export async function runBatch(id: string, context: RunContext): Promise<'ended' | 'released'> {
  const run = new BatchRun(context);
  try {
    await run.run(id);
    return context.stopped.aborted ? run.outcome : 'ended';
  } catch (error) {
    if (error instanceof FencedError) return 'ended';
    if (context.stopped.aborted) return 'released';
    throw error;
  }
}

const INPUT_LOST: BatchError = {
  code: 'input_file_lost',
  line: null,
  message: 'the input file is no longer kept',
  param: 'input_file_id',
};

const NO_ROOM: BatchError = {
  code: 'storage_limit_exceeded',
  line: null,
  message: 'your files have no room for more of the output; what there is of it is kept',
  param: null,
};

class BatchRun {
  readonly #context: RunContext;
  outcome: 'ended' | 'released' = 'released';
  /** Of the output, once some is written here. */
  #outputBytes: number | null = null;

  constructor(context: RunContext) {
    this.#context = context;
  }

  async run(id: string): Promise<void> {
    const { batches, log, stopped } = this.#context;
    let batch = await this.#patiently(() => batches.claim(id));
    if (batch === null) return;
    log('batch_claimed', { id, epoch: batch.epoch, next_line: batch.progress.nextLine });
    if (batch.status === 'validating')
      batch = await this.#orFail(batch, (it) => this.#validate(it));
    if (!isBatchEnded(batch.status)) batch = await this.#orFail(batch, (it) => this.#runLines(it));
    if (stopped.aborted && !isBatchEnded(batch.status)) return;
    if (!batch.isNotified) await this.#notify(batch);
    this.outcome = 'ended';
  }

  async #validate(batch: Batch): Promise<Batch> {
    const { spec } = batch;
    const lines = this.#linesFrom(spec.inputFileId, { nextLine: 0, byteOffset: 0 });
    const { numLines, errors } = await validate(lines, spec.endpoint);
    const { batches, transport } = this.#context;
    if (errors.length > 0) {
      const file = await this.#patiently(() => transport.files.find(spec.inputFileId));
      return this.#end(batch, 'failed', file === null ? [INPUT_LOST] : errors);
    }
    await this.#write(() => batches.enter(batch, 'in_progress', numLines));
    return this.#find(batch);
  }

  /** What nobody foresaw ends one batch, and is in the log. */
  async #orFail(batch: Batch, work: (batch: Batch) => Promise<Batch>): Promise<Batch> {
    try {
      return await work(batch);
    } catch (cause) {
      if (cause instanceof FencedError || this.#context.stopped.aborted) throw cause;
      this.#context.log('batch_crashed', { id: batch.spec.id, cause });
      const message = 'internal error';
      const error = { code: 'internal', line: null, message, param: null };
      return this.#end(await this.#find(batch), 'failed', [error]);
    }
  }

  async #runLines(batch: Batch): Promise<Batch> {
    const { batches } = this.#context;
    const lines = this.#linesFrom(batch.spec.inputFileId, batch.progress);
    const loop = new LineLoop(batch, {
      ...this.#context,
      find: () => this.#patiently(() => batches.find(batch.spec.id)),
      commit: async (commit) => {
        await this.#admitOutput(batch, commit);
        return this.#write(() => batches.commit(batch, commit));
      },
    });
    // Before it is validated, there is nothing to be kept of a batch that is cancelled.
    const reason = batch.numLines === 0 ? 'cancelled' : await loop.run(lines).catch(toReason);
    if (this.#context.stopped.aborted) return batch; // its end is another's to write
    const done = await this.#find(batch);
    const { numCompleted, numFailed } = done.progress;
    if (reason === 'full') return this.#end(done, 'failed', [NO_ROOM]);
    if (reason === 'lost' || (reason === null && numCompleted + numFailed < done.numLines)) {
      return this.#end(done, 'failed', [INPUT_LOST]);
    }
    await this.#write(() => batches.enter(done, 'finalizing', done.numLines));
    return this.#end(done, reason ?? 'completed', []);
  }

  async #end(
    batch: Batch,
    status: BatchEnd['status'],
    errors: readonly BatchError[],
  ): Promise<Batch> {
    const { batches, log } = this.#context;
    const { outputBytes, errorBytes } = batch.progress;
    const output = this.#fileOf(batch, 'output', outputBytes);
    const errorOutput = this.#fileOf(batch, 'errors', errorBytes);
    for (const file of [output, errorOutput]) if (file.numBytes > 0) await this.#admit(file);
    await this.#write(() => batches.end(batch, { status, errors, output, errorOutput }));
    const ended = await this.#find(batch);
    log('batch_ended', { id: batch.spec.id, status: ended.status, ...batch.progress });
    return ended;
  }

  #fileOf({ spec }: Batch, kind: 'output' | 'errors', numBytes: number): StoredFile {
    const createdMs = this.#context.now();
    return {
      id: batchFileId(spec.id, kind),
      tenant: spec.tenant,
      filename: `${spec.id}_${kind}.jsonl`,
      purpose: 'batch_output',
      createdMs,
      expiresMs: createdMs + spec.outputLifeMs,
      numBytes,
    };
  }

  #admit({ id, tenant, numBytes, expiresMs }: StoredFile, maxBytes = UNLIMITED): Promise<void> {
    const { files } = this.#context.transport;
    const claim = { id, tenant, numBytes, expiresMs, maxFiles: UNLIMITED, maxBytes };
    return this.#patiently(() => files.admit(claim));
  }

  /** Counts what is about to be written among the tenant's files, while the batch runs. */
  async #admitOutput(batch: Batch, { output }: Commit): Promise<void> {
    if (output === '') return;
    this.#outputBytes =
      (this.#outputBytes ?? batch.progress.outputBytes) + Buffer.byteLength(output);
    const { expiresMs, outputLifeMs } = batch.spec;
    const file = this.#fileOf(batch, 'output', this.#outputBytes);
    const growing = { ...file, expiresMs: expiresMs + outputLifeMs };
    try {
      await this.#admit(growing, this.#context.maxTenantBytes);
    } catch (cause) {
      if (!(cause instanceof PlatformError) || cause.code !== 'invalid_request') throw cause;
      throw new NoRoomError(cause.message, { cause });
    }
  }

  /**
   * First handed over, then marked: after a crash in between it is handed over again, under the
   * same id.
   */
  async #notify(batch: Batch): Promise<void> {
    const { batches, notify } = this.#context;
    await this.#patiently(() => notify(batch));
    await this.#patiently(() => batches.close(batch.spec));
  }

  #linesFrom(fileId: string, place: Place): AsyncGenerator<Line> {
    const { files } = this.#context.transport;
    const read = (id: string, first: number) => this.#patiently(() => files.read(id, first));
    return linesOf(bytesFrom({ read }, fileId, place.byteOffset), place, MAX_LINE_BYTES);
  }

  async #find({ spec, epoch }: Batch): Promise<Batch> {
    const batch = await this.#patiently(() => this.#context.batches.find(spec.id));
    if (batch?.epoch !== epoch) throw new FencedError(`another runner has ${spec.id}`);
    return batch;
  }

  async #write(write: () => Promise<LedgerReply>): Promise<LedgerReply> {
    const reply = await this.#patiently(write);
    if (reply.type !== 'ok') throw new FencedError(`refused: ${reply.type}`);
    return reply;
  }

  /** Waits for Redis to come back, for as long as we run. */
  async #patiently<T>(call: () => Promise<T>): Promise<T> {
    const { log, stopped } = this.#context;
    for (let numTries = 1; ; numTries += 1) {
      try {
        return await call();
      } catch (error) {
        const isAway = error instanceof PlatformError && error.code === 'unavailable';
        if (!isAway || stopped.aborted) throw error;
        if (numTries % LOG_EVERY === 1) log('batch_waits', { num_tries: numTries, cause: error });
      }
      await sleep(RETRY_MS);
    }
  }
}

/** Why a batch ends before its last line. */
function toReason(error: unknown): 'lost' | 'full' {
  if (error instanceof LineError) return 'lost'; // good when it was validated, it lacks its end now
  if (error instanceof NoRoomError) return 'full';
  throw error;
}
