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
import type { BatchEnd, BatchLedger, BatchStore, LedgerReply } from '../transport/batches.ts';
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
  readonly now: () => number;
  readonly log: Log;
  /** This process is to end: another goes on where we leave each batch. */
  readonly stopped: AbortSignal;
}

/** Somebody else runs the batch, or nobody keeps it. */
export class FencedError extends Error {}

const RETRY_MS = 500;
/** More than any tenant may have: the output of a batch was asked for. */
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

class BatchRun {
  readonly #context: RunContext;
  outcome: 'ended' | 'released' = 'released';

  constructor(context: RunContext) {
    this.#context = context;
  }

  async run(id: string): Promise<void> {
    const { batches, log, stopped } = this.#context;
    let batch = await this.#patiently(() => batches.claim(id));
    if (batch === null) return;
    log('batch_claimed', { id, epoch: batch.epoch, next_line: batch.progress.nextLine });
    if (batch.status === 'validating') batch = await this.#validate(batch);
    if (!isBatchEnded(batch.status)) batch = await this.#runOrFail(batch);
    if (stopped.aborted && !isBatchEnded(batch.status)) return;
    if (!batch.isNotified) await this.#notify(batch);
    this.outcome = 'ended';
  }

  async #validate(batch: Batch): Promise<Batch> {
    const { spec } = batch;
    const lines = this.#linesFrom(spec.inputFileId, { nextLine: 0, byteOffset: 0 });
    const { numLines, errors } = await validate(lines, spec.endpoint);
    if (errors.length > 0) return this.#end(batch, 'failed', errors);
    const { batches } = this.#context;
    await this.#write(() => batches.enter(batch, 'in_progress', numLines));
    return this.#find(batch);
  }

  /** What nobody foresaw ends one batch, and is in the log. */
  async #runOrFail(batch: Batch): Promise<Batch> {
    try {
      return await this.#runLines(batch);
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
      commit: (commit) => this.#write(() => batches.commit(batch, commit)),
    });
    // Before it is validated, there is nothing to be kept of a batch that is cancelled.
    const reason = batch.numLines === 0 ? 'cancelled' : await loop.run(lines).catch(orLost);
    if (this.#context.stopped.aborted) return batch; // its end is another's to write
    const done = await this.#find(batch);
    const { numCompleted, numFailed } = done.progress;
    if (reason === 'lost' || (reason === null && numCompleted + numFailed < done.numLines)) {
      const message = 'the input file is no longer kept';
      return this.#end(done, 'failed', [
        { code: 'input_file_lost', line: null, message, param: 'input_file_id' },
      ]);
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

  #admit({ id, tenant, numBytes, expiresMs }: StoredFile): Promise<void> {
    const { files } = this.#context.transport;
    const claim = { id, tenant, numBytes, expiresMs, maxFiles: UNLIMITED, maxBytes: UNLIMITED };
    return this.#patiently(() => files.admit(claim));
  }

  /**
   * First handed over, then marked: after a crash in between it is handed over again, under the
   * same id.
   */
  async #notify(batch: Batch): Promise<void> {
    const { batches, notify } = this.#context;
    await this.#patiently(() => notify(batch));
    await this.#patiently(() => batches.markNotified(batch.spec.id));
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
    for (;;) {
      try {
        return await call();
      } catch (error) {
        const isAway = error instanceof PlatformError && error.code === 'unavailable';
        if (!isAway || this.#context.stopped.aborted) throw error;
      }
      await sleep(RETRY_MS);
    }
  }
}

/** A line that was good when it was validated is one that lacks its end now. */
function orLost(error: unknown): 'lost' {
  if (error instanceof LineError) return 'lost';
  throw error;
}
