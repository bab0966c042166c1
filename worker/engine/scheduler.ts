import type { RequestId } from '../../shared/ids.ts';
import type { KvCache } from '../cache/kv-cache.ts';
import type { Sequence } from './sequence.ts';
import type { Chunk } from './step.ts';

export interface SchedulerLimits {
  /** Sequences that may run at once: the rows of the KV cache. */
  readonly maxSequences: number;
  /** Tokens one step may feed the model, over all sequences. */
  readonly maxBatchedTokens: number;
}

/**
 * Decides which tokens the model reads next.
 *
 * Prefill and decode are one thing here: every sequence has pending tokens, and each step hands
 * out a budget of them until none are left. A long prompt is pending for several steps; a draft
 * makes a decoding sequence pending by more than one. Sequences that await their next token are
 * served first, so that reading a prompt never stops another's stream.
 */
export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #cache: KvCache;
  readonly #restore: (sequence: Sequence) => void;
  readonly #waiting: Sequence[] = []; // most urgent first, then oldest
  readonly #running: Sequence[] = []; // oldest first

  /** @param restore fills the new row of a sequence with what is known of it already */
  constructor(limits: SchedulerLimits, cache: KvCache, restore: (sequence: Sequence) => void) {
    this.#limits = limits;
    this.#cache = cache;
    this.#restore = restore;
  }

  get running(): readonly Sequence[] {
    return this.#running;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  /** Takes charge of a sequence, behind those that are as urgent. */
  add(sequence: Sequence): void {
    const { priority } = sequence.options;
    const after = this.#waiting.findLastIndex((other) => other.options.priority <= priority);
    this.#waiting.splice(after + 1, 0, sequence);
  }

  /** Plans one step. */
  schedule(): Chunk[] {
    this.#admit();
    let budget = this.#limits.maxBatchedTokens;
    const chunks: Chunk[] = [];
    const byUrgency = [
      ...this.#running.filter((sequence) => sequence.isDecoding),
      ...this.#running.filter((sequence) => !sequence.isDecoding),
    ];
    for (const sequence of byUrgency) {
      const numTokens = Math.min(sequence.numPendingTokens, sequence.roomInBlock, budget);
      if (numTokens === 0) break;
      chunks.push({ sequence, numTokens });
      budget -= numTokens;
    }
    return chunks;
  }

  /** Gives free rows to those who wait. */
  #admit(): void {
    while (this.#running.length < this.#limits.maxSequences) {
      const sequence = this.#waiting.shift();
      if (sequence === undefined) return;
      sequence.row = this.#cache.open();
      this.#restore(sequence);
      this.#running.push(sequence);
    }
  }

  /** Lets a sequence go, wherever it is; its row is free for the next. */
  remove(sequence: Sequence): void {
    removeFrom(this.#waiting, sequence);
    removeFrom(this.#running, sequence);
    if (sequence.row === null) return;
    this.#cache.release(sequence.row);
    sequence.row = null;
  }

  /** Every sequence of a request that it still has charge of. */
  sequencesOf(id: RequestId): Sequence[] {
    return [...this.#running, ...this.#waiting].filter(({ requestId }) => requestId === id);
  }
}

function removeFrom(list: Sequence[], sequence: Sequence): void {
  const index = list.indexOf(sequence);
  if (index !== -1) list.splice(index, 1);
}
