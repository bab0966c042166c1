import { invariant } from '../../shared/assert.ts';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { FinishReason } from '../../shared/protocol/event.ts';
import type { Beginning, GenerationEvent } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { KvCache } from '../cache/kv-cache.ts';
import { bytesPerToken, wholeBlocks } from '../cache/layout.ts';
import { NewColumns, type NewTokens } from '../cache/new-columns.ts';
import { PrefixCache, type PrefixCacheUsage } from '../cache/prefix-cache.ts';
import type { CacheRow } from '../cache/row.ts';
import { freeOutput, type ModelOutput, type ModelRunner } from '../model/runner.ts';
import { buildBatches, callLayout, type RowRead } from './batch.ts';
import { Generation, type GenerationContext, type GenerationFault } from './generation.ts';
import { faultOf } from './job-fault.ts';
import { PrefixSharing } from './prefix-sharing.ts';
import { Scheduler, type SchedulerLimits } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import type { Speculator } from './speculator.ts';
import { type Chunk, numLogits, type StepOutput } from './step.ts';
import { TokenSelector } from './token-selector.ts';

/** What a step, or a command between steps, has to say of one request. */
export interface Update {
  readonly id: RequestId;
  readonly events: readonly GenerationEvent[];
}

export interface EngineParts {
  readonly runner: ModelRunner;
  readonly limits: SchedulerLimits;
  /** Memory for keys and values of running sequences; absent for as much as they take. */
  readonly kvCacheBytes?: number;
  /** Memory for keys and values of prefixes that may come again; 0 for none. */
  readonly prefixCacheBytes: number;
  /** `null` to draft nothing. */
  readonly speculator: Speculator | null;
  readonly context: GenerationContext;
}

/** Where an engine stands, and what it has done so far. */
export interface EngineUsage {
  /** Sequences that have a row, and that wait for one. */
  readonly numRunning: number;
  readonly numWaiting: number;
  /** Times that a sequence had to leave its row before its end. */
  readonly numPreemptions: number;
  /** Memory of keys and values: of sequences that run or are parked, and of prefixes. */
  readonly kvCacheBytes: number;
  readonly prefixCacheBytes: number;
  readonly numPrefixTokensAsked: number;
  readonly numPrefixTokensCopied: number;
  readonly numPrefixBlocksEvicted: number;
}

/** Its own fault or the weights', not the client's. */
const NO_NUMBER: GenerationFault = {
  code: 'internal',
  message: 'the model gave no number for the next token',
  param: null,
};

/** The loop at the heart of the worker. Its only input and output is the model's own. */
export class Engine {
  readonly #runner: ModelRunner;
  readonly #context: GenerationContext;
  readonly #limits: SchedulerLimits;
  readonly #speculator: Speculator | null;
  readonly #cache: KvCache;
  readonly #prefixes: PrefixCache;
  readonly #sharing: PrefixSharing;
  readonly #scheduler: Scheduler;
  readonly #selector: TokenSelector;
  readonly #generationById = new Map<RequestId, Generation>();
  #numPreemptions = 0;
  /** Whether the last step had nothing to read, and nobody has told the engine anything since. */
  #isHeldUp = false;
  /** The speculator, where it has a part in the step that is being made. */
  #attending: Speculator | null = null;

  constructor(parts: EngineParts) {
    const { runner, limits, speculator, context } = parts;
    this.#runner = runner;
    this.#limits = limits;
    this.#speculator = speculator;
    this.#context = context;
    this.#cache = new KvCache(runner.shape, limits.maxSequences, {
      maxBytes: parts.kvCacheBytes ?? Infinity,
      maxCapacity: wholeBlocks(context.maxSequenceTokens),
    });
    this.#prefixes = new PrefixCache({
      maxBytes: parts.prefixCacheBytes,
      blockBytes: BLOCK_SIZE * bytesPerToken(runner.shape),
    });
    this.#sharing = new PrefixSharing(this.#cache, this.#prefixes);
    this.#scheduler = new Scheduler(limits, this.#cache, {
      onRowTaken: (sequence) => this.#suspend(sequence),
      onRowLost: (sequence) => this.#generationById.get(sequence.requestId)?.addRowLost(sequence),
      isReadBy: (sequence, others) => this.#sharing.isReadBy(sequence, others),
    });
    this.#selector = new TokenSelector(runner.shape.vocabSize, context.describe);
  }

  /** Whether a step would change nothing: there is no request, or each is held. */
  get isIdle(): boolean {
    return this.#generationById.size === 0 || this.#isHeldUp;
  }

  get prefixUsage(): PrefixCacheUsage {
    return this.#prefixes.usage;
  }

  get usage(): EngineUsage {
    return {
      numRunning: this.#scheduler.running.length,
      numWaiting: this.#scheduler.numWaiting,
      numPreemptions: this.#numPreemptions,
      kvCacheBytes: this.#cache.numBytes,
      prefixCacheBytes: this.#prefixes.numBytes,
      numPrefixTokensAsked: this.#sharing.numTokensAsked,
      numPrefixTokensCopied: this.#sharing.numTokensCopied,
      numPrefixBlocksEvicted: this.#prefixes.numEvicted,
    };
  }

  /** Takes a request in. What was published of it is read again like a prompt. */
  start(job: Job, { choices, isHeld = false }: Beginning): void {
    this.#isHeldUp = false;
    const generation = new Generation(job, choices, this.#context);
    if (isHeld) generation.hold();
    this.#generationById.set(job.id, generation);
    const { maxSequenceTokens } = this.#context;
    const fault = faultOf(job, { ...this.#runner.shape, maxSequenceTokens });
    if (fault !== null) {
      generation.fail(fault);
      return;
    }
    for (const sequence of generation.sequences) {
      if (sequence.finishReason === null) this.#scheduler.add(sequence);
    }
  }

  /** Lets a held request be read. */
  proceed(id: RequestId): void {
    this.#isHeldUp = false;
    this.#generationById.get(id)?.proceed();
  }

  /** Ends a request where it stands. */
  cancel(id: RequestId, reason: FinishReason): void {
    this.#isHeldUp = false;
    this.#generationById.get(id)?.cancel(reason);
    for (const sequence of this.#scheduler.sequencesOf(id)) this.#remove(sequence);
  }

  /** Forgets a request without a word. */
  release(id: RequestId): void {
    this.#isHeldUp = false;
    this.#generationById.delete(id);
    for (const sequence of this.#scheduler.sequencesOf(id)) this.#remove(sequence);
  }

  /** Advances every scheduled sequence once. */
  async step(): Promise<void> {
    const startMs = this.#context.now();
    this.#scheduler.admit(startMs);
    for (const { requestId } of this.#scheduler.due) this.#generationById.get(requestId)?.sayDue();
    this.#share();
    await this.#propose();
    const reads = this.#scheduler.schedule().map((chunk) => this.#toRead(chunk));
    this.#isHeldUp = reads.length === 0;
    const isDecode = !this.#isHeldUp && reads.every(({ chunk }) => chunk.sequence.isDecoding);
    const batches = buildBatches(reads, this.#cache, this.#runner.shape.slidingWindow);
    const outputs: ModelOutput[] = [];
    const results: (readonly [StepOutput, NewTokens])[] = [];
    for (const { input, reads } of batches) {
      const callStartMs = this.#context.now();
      const output = await this.#runner.run(input);
      outputs.push(output);
      const { logits } = output;
      const { numRows, numNewTokens, frozenCapacity } = input;
      const columns = new NewColumns(this.#runner.shape, output, numNewTokens);
      for (const { read, row, firstLogits, firstSideLogits } of reads) {
        const { chunk, side } = read;
        const sideTokenIds = side
          ? this.#selector.chooseSide(chunk, side, logits, firstSideLogits)
          : [];
        const selected = this.#selector.select(chunk, logits, firstLogits);
        if (side && selected.newTokenIds.length > 0) {
          this.#attending?.takeSide(chunk.sequence, sideTokenIds, selected.newTokenIds.length);
        }
        results.push([selected, { columns, row }]);
      }
      // What reads a prompt says nothing of drafts; choosing from their logits is a part of theirs.
      if (!reads.every(({ read }) => read.numLogits === read.tokenIds.length)) continue;
      const ms = this.#context.now() - callStartMs;
      this.#attending?.observeCall({ numRows, numNewTokens, frozenCapacity, ms });
    }
    // Only now, since appending may move rows, and later calls were laid out where they lay.
    for (const [output, newTokens] of results) this.#commit(output, newTokens);
    outputs.forEach(freeOutput);
    if (!isDecode) return;
    const numTokens = results.reduce((sum, [{ newTokenIds }]) => sum + newTokenIds.length, 0);
    const ms = this.#context.now() - startMs;
    this.#speculator?.observeStep({ numRows: reads.length, numTokens, ms });
  }

  /** What there is to say since the last call. */
  takeUpdates(): Update[] {
    const updates: Update[] = [];
    for (const [id, generation] of this.#generationById) {
      const events = generation.takeEvents();
      if (events.length > 0) updates.push({ id, events });
      if (generation.hasEnded) this.#generationById.delete(id);
    }
    return updates;
  }

  /** Keeps what a chunk gave; a sequence that is over leaves its row to the next. */
  #commit(output: StepOutput, newTokens: NewTokens): void {
    const { sequence } = output.chunk;
    const generation = this.#generationById.get(sequence.requestId);
    invariant(generation !== undefined, 'a step of a forgotten request');
    if (sequence.row === null) return; // a sibling broke in this very step
    if (output.isBroken || !this.#cache.accepts(output.numKept, newTokens)) {
      generation.fail(NO_NUMBER);
      for (const each of this.#scheduler.sequencesOf(generation.id)) this.#remove(each);
      return;
    }
    this.#cache.append(sequence.row, output.numKept, newTokens);
    if (output.numKept > 0) this.#sharing.remember(sequence);
    generation.add(output);
    this.#attending?.settle(output);
    if (sequence.finishReason !== null) this.#remove(sequence);
    else if (sequence.context.room === 0) this.#renew(sequence, sequence.row);
  }

  /** Lets a sequence go on with what it remembers, read anew. */
  #renew(sequence: Sequence, row: CacheRow): void {
    sequence.context.renew();
    this.#cache.clear(row);
    this.#speculator?.suspend(sequence);
  }

  /** Copies to those that read their prompts what was read before, in the last step for others. */
  #share(): void {
    const { running } = this.#scheduler;
    for (const sequence of running) {
      if (!sequence.isDecoding) this.#sharing.extend(sequence, running);
    }
  }

  /** Drafts for the sequences that are about to read one token, in the room that prompts leave. */
  async #propose(): Promise<void> {
    this.#attending = null;
    if (this.#speculator === null) return;
    const { active } = this.#scheduler;
    const decoding = active.filter(({ isDecoding }) => isDecoding);
    const isReading = decoding.length < active.length;
    if (!this.#speculator.attends(decoding, isReading)) return;
    this.#attending = this.#speculator;
    const drafted = decoding.filter(({ canSpeculate }) => canSpeculate);
    const numReserved = decoding.length + (isReading ? BLOCK_SIZE : 0);
    const maxTokens = Math.max(0, this.#limits.maxBatchedTokens - numReserved);
    const others = decoding.filter(({ canSpeculate }) => !canSpeculate);
    const rows = [...drafted, ...others].map(rowOf);
    const layOut = callLayout(rows, this.#cache);
    await this.#speculator.propose(drafted, { maxTokens, numOthers: others.length, layOut });
    for (const sequence of drafted) sequence.cutDraft(this.#runner.shape.vocabSize);
  }

  #toRead(chunk: Chunk): ChunkRead {
    const { sequence, numTokens } = chunk;
    const tokenIds = sequence.pendingTokenIds(numTokens);
    const side = this.#attending?.sideTokensFor(sequence, numTokens) ?? null;
    return { chunk, row: rowOf(sequence), tokenIds, numLogits: numLogits(chunk), side };
  }

  #suspend(sequence: Sequence): void {
    this.#numPreemptions += 1;
    this.#speculator?.suspend(sequence);
  }

  #remove(sequence: Sequence): void {
    this.#speculator?.remove(sequence);
    this.#scheduler.remove(sequence);
  }
}

function rowOf({ row }: Sequence): CacheRow {
  invariant(row !== null, 'a scheduled sequence has a row');
  return row;
}

interface ChunkRead extends RowRead {
  readonly chunk: Chunk;
}
