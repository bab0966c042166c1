import { KvCache } from '../../worker/cache/kv-cache.ts';
import { Scheduler } from '../../worker/engine/scheduler.ts';
import type { Sequence, SequenceOptions } from '../../worker/engine/sequence.ts';
import { newTokensOf } from './naive-cache.ts';
import { Names } from './sequences.ts';

export const stepsShape = { numLayers: 1, numKvHeads: 1, headDim: 1 };
export const batch = { class: 'batch', isStream: false } as const;
export const unbounded = { class: 'batch', isUnbounded: true } as const;

/**
 * A scheduler with a turn of three tokens, whose steps give every sequence that was read a token.
 */
export class Steps {
  readonly cache: KvCache;
  readonly scheduler: Scheduler;
  readonly names = new Names();
  taken: string[] = [];
  lost: string[] = [];

  constructor(maxSequences: number, maxBatchedTokens = 100, maxBytes = Infinity) {
    this.cache = new KvCache(stepsShape, maxSequences, { maxBytes });
    this.scheduler = new Scheduler(
      { maxSequences, maxBatchedTokens, quantumTokens: 3 },
      this.cache,
      {
        onRowTaken: (sequence) => this.taken.push(this.names.of(sequence)),
        onRowLost: (sequence) => this.lost.push(this.names.of(sequence)),
        isReadBy: () => false,
      },
    );
  }

  add(name: string, numTokens: number, options: Partial<SequenceOptions> = {}): Sequence {
    const sequence = this.names.sequence(numTokens, name, options);
    this.scheduler.add(sequence);
    return sequence;
  }

  /** @returns who read how many tokens */
  step(nowMs = 0): string {
    this.scheduler.admit(nowMs);
    const chunks = this.scheduler.schedule();
    for (const { sequence, numTokens } of chunks) {
      const gains = numTokens === sequence.numPendingTokens;
      const call = { numNewTokens: numTokens, row: 0, numRows: 1 };
      const tokens = newTokensOf(stepsShape, Array<number>(numTokens).fill(0), call);
      this.cache.append(sequence.row!, numTokens, tokens);
      if (gains) sequence.accept(9);
    }
    return chunks
      .map(({ sequence, numTokens }) => `${this.names.of(sequence)} ${numTokens}`)
      .join(', ');
  }

  steps(count: number): string[] {
    return Array.from({ length: count }, () => this.step());
  }
}
