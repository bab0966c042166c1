import type { RequestId } from '../../shared/ids.ts';
import type { KvCache } from '../cache/kv-cache.ts';
import type { Sequence } from './sequence.ts';
import type { Chunk } from './step.ts';
import { WaitingLine } from './waiting-line.ts';

export interface SchedulerLimits {
  /** Sequences that may run at once: the rows of the KV cache. */
  readonly maxSequences: number;
  /** Tokens one step may feed the model, over all sequences. */
  readonly maxBatchedTokens: number;
  /** Output tokens after which an unbounded sequence gives its row to one that waits; absent for the default. */
  readonly quantumTokens?: number;
}

/** What is to be done beside when rows change hands. */
export interface RowListener {
  /** The sequence has got an empty row: fill it with what is known of it. */
  onRow(sequence: Sequence): void;
  /** The sequence has lost its row before its end, and will have another. */
  onRowLost(sequence: Sequence): void;
}

/** Long enough that reading it all again, which a new row may take, is small beside it. */
export const DEFAULT_QUANTUM_TOKENS = 1024;

/** While prompts of interactive sequences are read, those of class `batch` take part in one step of so many. */
const BATCH_INTERVAL = 8;

/**
 * Decides who has a row, and which tokens the model reads next.
 *
 * Prefill and decode are one thing here: every sequence has pending tokens, and each step hands
 * out a budget of them until none are left. A long prompt is pending for several steps; a draft
 * makes a decoding sequence pending by more than one. Sequences that await their next token are
 * served first, so that reading a prompt never stops another's stream.
 *
 * Sequences of class `batch` give way to interactive ones: the newest of them loses its row in the step in
 * which an interactive one lacks it, and all of them sit out most steps in which an interactive prompt is read.
 * A sequence without bound belongs to that class, and gives its row to others of it by turns. What lost its
 * row keeps its tokens, and reads them again like a prompt.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #cache: KvCache;
  readonly #listener: RowListener;
  readonly #line = new WaitingLine();
  readonly #running: Sequence[] = []; // oldest first
  #numStepsSatOut = 0;

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
    return this.#numStepsSatOut > 0 ? this.#running.filter(isInteractive) : this.#running;
  }

  /** Takes charge of a sequence, behind those that are as urgent. */
  add(sequence: Sequence): void {
    this.#line.add(sequence);
  }

  /** Begins a step: gives rows to those who wait, and settles who takes part. */
  admit(): void {
    for (;;) {
      const isFull = this.#running.length >= this.#limits.maxSequences;
      const giver = isFull ? this.#giver() : null;
      if (isFull && giver === null) break;
      const sequence = this.#line.take();
      if (sequence === undefined) break;
      if (giver !== null) this.#suspend(giver);
      sequence.row = this.#cache.open(sequence.context.sinkWindow);
      this.#running.push(sequence);
      this.#listener.onRow(sequence);
    }
    const isReading = this.#running.some((each) => isInteractive(each) && !each.isDecoding);
    this.#numStepsSatOut = isReading ? (this.#numStepsSatOut + 1) % BATCH_INTERVAL : 0;
  }

  /** Plans the step. */
  schedule(): Chunk[] {
    let budget = this.#limits.maxBatchedTokens;
    const chunks: Chunk[] = [];
    const byUrgency = this.active.toSorted((a, b) => urgencyOf(a) - urgencyOf(b));
    for (const sequence of byUrgency) {
      const numTokens = Math.min(sequence.numPendingTokens, sequence.roomInChunk, budget);
      if (numTokens === 0) break;
      chunks.push({ sequence, numTokens });
      budget -= numTokens;
    }
    return chunks;
  }

  /** Lets a sequence go, wherever it is; its row is free for the next. */
  remove(sequence: Sequence): void {
    this.#line.remove(sequence);
    this.#leaveRow(sequence);
  }

  /** Every sequence of a request that it still has charge of. */
  sequencesOf(id: RequestId): Sequence[] {
    return [...this.#running, ...this.#line.sequences].filter(({ requestId }) => requestId === id);
  }

  /** Who is to give its row to the next in line; `null` for nobody. */
  #giver(): Sequence | null {
    const giver =
      this.#line.numInteractive > 0
        ? this.#running.findLast((sequence) => !isInteractive(sequence))
        : this.#running.find((sequence) => this.#isTurnOver(sequence));
    return this.numWaiting > 0 ? (giver ?? null) : null;
  }

  #isTurnOver(sequence: Sequence): boolean {
    const { quantumTokens = DEFAULT_QUANTUM_TOKENS } = this.#limits;
    const numTokens = sequence.numOutputTokens - sequence.turnStart;
    return sequence.options.isUnbounded && numTokens >= quantumTokens;
  }

  /** Takes a sequence's row; it waits for another. */
  #suspend(sequence: Sequence): void {
    this.#leaveRow(sequence);
    this.#listener.onRowLost(sequence);
    if (!this.#isTurnOver(sequence)) {
      this.#line.putBack(sequence);
      return;
    }
    sequence.turnStart = sequence.numOutputTokens;
    this.#line.addRested(sequence);
  }

  #leaveRow(sequence: Sequence): void {
    if (sequence.row === null) return;
    this.#running.splice(this.#running.indexOf(sequence), 1);
    this.#cache.release(sequence.row);
    sequence.row = null;
  }
}

function isInteractive({ options }: Sequence): boolean {
  return options.class === 'interactive';
}

/** Those that await a token before those that read; of either, the interactive first. */
function urgencyOf(sequence: Sequence): number {
  return (sequence.isDecoding ? 0 : 2) + (isInteractive(sequence) ? 0 : 1);
}
