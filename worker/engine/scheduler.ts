import type { RequestId } from '../../shared/ids.ts';
import type { KvCache } from '../cache/kv-cache.ts';
import type { CacheRow } from '../cache/row.ts';
import { OverdueStream } from './overdue-stream.ts';
import type { Sequence } from './sequence.ts';
import type { Chunk } from './step.ts';
import { WaitingLine } from './waiting-line.ts';

export interface SchedulerLimits {
  /** Sequences that may run at once: the rows of the KV cache. */
  readonly maxSequences: number;
  /** Tokens one step may feed the model, over all sequences. */
  readonly maxBatchedTokens: number;
  /**
   * Output tokens after which an unbounded sequence gives its row to one that waits; absent for the
   * default.
   */
  readonly quantumTokens?: number;
}

/** What else is to be done when a row is taken, and known when a step is planned. */
export interface RowListener {
  /** The sequence had to leave its row before its end, and waits for one. */
  onRowTaken(sequence: Sequence): void;
  /** What it had in its row is lost: it will be read again. */
  onRowLost(sequence: Sequence): void;
  /** Whether what it would read next can be copied once the others have read. */
  isReadBy(sequence: Sequence, others: readonly Sequence[]): boolean;
}

/**
 * A turn is also no shorter than what had to be read for it: where rows cannot be parked, that may
 * be nine windows.
 */
export const DEFAULT_QUANTUM_TOKENS = 1024;

/**
 * Where a sequence of class `batch` would make a step for an interactive one much longer, it takes
 * part in one of so many.
 */
const BATCH_INTERVAL = 8;
/**
 * Until there was no interactive sequence for so long, one of class `batch` takes part in a step,
 * with so many tokens: the next one to come waits for the end of a step, which is to be short.
 * Streams without bound are read by somebody: they take part as others do.
 */
const QUIET_MS = 2000;
const TOKENS_BESIDE = 8;

/**
 * Decides who has a row, and which tokens the model reads next.
 *
 * Prefill and decode are one thing here: every sequence has pending tokens, and each step hands
 * out a budget of them until none are left. A long prompt is pending for several steps; a draft
 * makes a decoding sequence pending by more than one. Sequences that await their next token are
 * served first, so that reading a prompt never stops another's stream.
 *
 * Sequences of class `batch` give way to interactive ones: the newest of them loses its row in the
 * step in which an interactive one lacks it, all of them sit out most steps in which an interactive
 * prompt is read, and one at most takes part in the others as long as interactive ones come and go.
 * A sequence without bound belongs to that class, and gives its row to others of it by turns; while
 * it has one it takes part as interactive ones do, unless it is the line of a batch, and one that
 * is overdue is served as they are. What lost its row keeps its tokens and, as long as there is
 * memory for it, what it had there; else it reads its tokens again like a prompt.
 *
 * Where running sequences outgrow the memory of the cache, the newest loses its row, those of class
 * `batch` first, and whoever waits has one once there is memory for all of its tokens.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #cache: KvCache;
  readonly #listener: RowListener;
  readonly #line = new WaitingLine();
  readonly #overdue = new OverdueStream(this.#line);
  readonly #running: Sequence[] = []; // oldest first
  #numStepsSatOut = 0;
  #lastInteractiveMs = -Infinity;
  /** Whether interactive sequences come and go. */
  #isBusy = false;
  #numSteps = 0;

  constructor(limits: SchedulerLimits, cache: KvCache, listener: RowListener) {
    this.#limits = limits;
    this.#cache = cache;
    this.#listener = listener;
  }

  get running(): readonly Sequence[] {
    return this.#running;
  }

  get numWaiting(): number {
    return this.#line.numInteractive + this.#line.numBatch;
  }

  /** Those that take part in the next step. */
  get active(): readonly Sequence[] {
    return this.#activeOf(this.#running.filter(({ isHeld }) => !isHeld));
  }

  /** Those that would take part as well if they were not held. */
  get due(): readonly Sequence[] {
    return this.#activeOf(this.#running).filter(({ isHeld }) => isHeld);
  }

  #activeOf(running: readonly Sequence[]): readonly Sequence[] {
    if (!this.#isBusy) return running;
    const beside = this.#numStepsSatOut > 0 ? null : this.#besideOf(running);
    const isRead = (each: Sequence) => !isLine(each) && this.#numStepsSatOut === 0;
    return running.filter((each) => isInteractive(each) || isRead(each) || each === beside);
  }

  /**
   * Who of class `batch` takes part beside interactive ones: the oldest whose row lies next to one
   * of theirs, which the same call of the model reads. Another would want a call of its own, and
   * all weights be read twice.
   */
  #besideOf(running: readonly Sequence[]): Sequence | null {
    const batch = running.filter(isLine);
    const interactive = running.filter(isInteractive);
    const isNear = (each: Sequence) => interactive.some((other) => areNeighbours(each, other));
    const isFree = interactive.length === 0 || this.#numSteps % BATCH_INTERVAL === 0;
    return batch.find(isNear) ?? (isFree ? batch[0] : null) ?? null;
  }

  /** Takes charge of a sequence, behind those that are as urgent. */
  add(sequence: Sequence): void {
    this.#line.add(sequence);
  }

  /**
   * Begins a step: gives rows to those who wait, and settles who takes part. @param nowMs by any
   * one clock
   */
  admit(nowMs: number): void {
    this.#overdue.update(nowMs);
    const givers = this.#giveMemory();
    for (let next = this.#line.next; next !== undefined; next = this.#line.next) {
      if (this.#hasRoomFor(next)) {
        this.#line.take();
        this.#seat(next);
        continue;
      }
      const giver = this.#giver();
      if (giver === null) break;
      this.#suspend(giver, true);
      givers.push(giver);
    }
    for (const giver of givers) this.#awaitRow(giver);
    if (this.#running.some(isInteractive)) this.#lastInteractiveMs = nowMs;
    this.#isBusy = nowMs - this.#lastInteractiveMs <= QUIET_MS;
    this.#numSteps += 1;
    const isReading = this.#running.some(
      (each) => isInteractive(each) && !each.isDecoding && !each.isHeld,
    );
    this.#numStepsSatOut = isReading ? (this.#numStepsSatOut + 1) % BATCH_INTERVAL : 0;
  }

  /** Plans the step. */
  schedule(): Chunk[] {
    let budget = this.#limits.maxBatchedTokens;
    let besideBudget = this.#isBusy ? TOKENS_BESIDE : budget;
    const chunks: Chunk[] = [];
    const byUrgency = this.active.toSorted((a, b) => urgencyOf(a) - urgencyOf(b));
    for (const sequence of byUrgency) {
      const room = isLine(sequence) ? Math.min(budget, besideBudget) : budget;
      const numTokens = Math.min(sequence.numPendingTokens, sequence.roomInChunk, room);
      if (numTokens === 0 || this.#isReadFor(sequence, chunks)) continue;
      chunks.push({ sequence, numTokens });
      budget -= numTokens;
      if (isLine(sequence)) besideBudget -= numTokens;
    }
    return chunks;
  }

  #isReadFor(sequence: Sequence, chunks: readonly Chunk[]): boolean {
    if (sequence.isDecoding) return false;
    const others = chunks.map((chunk) => chunk.sequence);
    return this.#listener.isReadBy(sequence, others);
  }

  /** Lets a sequence go, wherever it is; its row is free for the next. */
  remove(sequence: Sequence): void {
    this.#line.remove(sequence);
    this.#overdue.remove(sequence);
    const row = this.#leave(sequence);
    if (row !== null) this.#cache.release(row);
    if (sequence.parkedRow !== null) this.#cache.discard(sequence.parkedRow);
    sequence.leaveRow(false);
  }

  /** Every sequence of a request that it still has charge of. */
  sequencesOf(id: RequestId): Sequence[] {
    return [...this.#running, ...this.#line.sequences].filter(({ requestId }) => requestId === id);
  }

  /** Takes rows from the newest until all others have memory for another block. */
  #giveMemory(): Sequence[] {
    const givers: Sequence[] = [];
    while (this.#running.length > 1 && !this.#hasMemoryFor(this.#running)) {
      const giver = this.#running.findLast((each) => !isInteractive(each)) ?? this.#running.at(-1)!;
      this.#suspend(giver, false);
      givers.push(giver);
    }
    return givers;
  }

  #hasRoomFor(sequence: Sequence): boolean {
    const { length } = this.#running;
    if (length >= this.#limits.maxSequences) return false;
    return length === 0 || this.#hasMemoryFor([...this.#running, sequence]);
  }

  #hasMemoryFor(sequences: readonly Sequence[]): boolean {
    const numBytes = sequences.reduce(
      (sum, { tokenIds, context }) =>
        sum + this.#cache.bytesFor(tokenIds.length, context.sinkWindow),
      0,
    );
    return numBytes <= this.#cache.maxBytes;
  }

  #seat(sequence: Sequence): void {
    const { parkedRow, context } = sequence;
    const isKept = parkedRow !== null && this.#cache.unpark(parkedRow);
    if (parkedRow !== null && !isKept) this.#listener.onRowLost(sequence);
    sequence.takeRow(isKept ? parkedRow : this.#cache.open(context.sinkWindow));
    this.#running.push(sequence);
  }

  /** Who is to give its row to the next in line; `null` for nobody. */
  #giver(): Sequence | null {
    const giver =
      this.#line.numInteractive > 0
        ? this.#running.findLast((sequence) => !isInteractive(sequence))
        : this.#running.find((sequence) => this.#isTurnOver(sequence));
    return giver ?? null;
  }

  #isTurnOver(sequence: Sequence): boolean {
    const { quantumTokens = DEFAULT_QUANTUM_TOKENS } = this.#limits;
    const numTokens = sequence.numOutputTokens - sequence.turnStart;
    const isOver = numTokens >= Math.max(quantumTokens, sequence.numTurnTokensRead);
    return sequence.options.isUnbounded && isOver;
  }

  /** Puts a sequence that has lost its row in line for another. */
  #awaitRow(sequence: Sequence): void {
    if (!this.#isTurnOver(sequence)) {
      this.#line.putBack(sequence);
      return;
    }
    sequence.turnStart = sequence.numOutputTokens;
    this.#line.addRested(sequence);
  }

  /** Takes a sequence's row, and keeps what it had there if that is wanted and there is memory. */
  #suspend(sequence: Sequence, isWanted: boolean): void {
    const row = this.#leave(sequence);
    if (row === null) return;
    const isParked = isWanted && this.#cache.park(row);
    if (!isWanted) this.#cache.release(row);
    sequence.leaveRow(isParked);
    this.#listener.onRowTaken(sequence);
    if (!isParked) this.#listener.onRowLost(sequence);
  }

  #leave(sequence: Sequence): CacheRow | null {
    if (sequence.row !== null) this.#running.splice(this.#running.indexOf(sequence), 1);
    return sequence.row;
  }
}

function isInteractive(sequence: Sequence): boolean {
  return sequence.isInteractive;
}

/** Of class `batch` for its own sake, and not for want of a bound. */
function isLine({ options }: Sequence): boolean {
  return options.class === 'batch' && !options.isStream;
}

function areNeighbours({ row }: Sequence, { row: other }: Sequence): boolean {
  if (row === null || other === null) return false;
  return row.frozenCapacity === other.frozenCapacity && Math.abs(row.index - other.index) === 1;
}

/** Those that await a token before those that read; of either, the interactive first. */
function urgencyOf(sequence: Sequence): number {
  return (sequence.isDecoding ? 0 : 2) + (isInteractive(sequence) ? 0 : 1);
}
