import { beforeEach, describe, expect, it } from 'vitest';
import { KvCache } from '../../../worker/cache/kv-cache.ts';
import { Scheduler } from '../../../worker/engine/scheduler.ts';
import type { Sequence } from '../../../worker/engine/sequence.ts';
import type { Chunk } from '../../../worker/engine/step.ts';
import { newTokensOf } from '../../support/naive-cache.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';
import { Names } from '../../support/sequences.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 1 };

let names = new Names();
beforeEach(() => {
  names = new Names();
});

function schedulerOf(maxBatchedTokens: number, maxSequences = 2) {
  const cache = new KvCache(shape, maxSequences);
  const listener = { onRowTaken: () => {}, onRowLost: () => {}, isReadBy: () => false };
  return { cache, scheduler: new Scheduler({ maxSequences, maxBatchedTokens }, cache, listener) };
}

/** Reads the chunks into the cache: a sequence with nothing left to read gains the token 9. */
function read(cache: KvCache, chunks: readonly Chunk[]): void {
  for (const { sequence, numTokens } of chunks) {
    const gains = numTokens === sequence.numPendingTokens;
    const tokens = Array<number>(numTokens).fill(0);
    const call = { numNewTokens: numTokens, row: 0, numRows: 1 };
    cache.append(sequence.row!, numTokens, newTokensOf(shape, tokens, call));
    if (gains) sequence.accept(9);
  }
}

/** Runs one step. @returns its plan */
function step({ cache, scheduler }: ReturnType<typeof schedulerOf>): string {
  scheduler.admit(0);
  const chunks = scheduler.schedule();
  read(cache, chunks);
  return chunks.map(({ sequence, numTokens }) => `${names.of(sequence)} ${numTokens}`).join(', ');
}

describe('Scheduler', () => {
  it('spreads a long prompt over steps and lets decode go first', () => {
    const parts = schedulerOf(8);
    parts.scheduler.add(names.sequence(3, 'short'));
    parts.scheduler.add(names.sequence(12, 'long'));

    expect(step(parts)).toBe('short 3, long 5');
    expect(step(parts)).toBe('short 1, long 7');
    expect(step(parts)).toBe('short 1, long 1');
  });

  it('serves those that await a token before an older prompt', () => {
    const parts = schedulerOf(8);
    parts.scheduler.add(names.sequence(20, 'long'));
    expect(step(parts)).toBe('long 8');
    parts.scheduler.add(names.sequence(1, 'short'));
    expect(step(parts)).toBe('short 1, long 7');
    expect(step(parts)).toBe('short 1, long 5');
  });

  it('ends a chunk where the block ends', () => {
    const parts = schedulerOf(100);
    parts.scheduler.add(names.sequence(90, 'a'));

    expect(step(parts)).toBe('a 64');
    expect(step(parts)).toBe('a 26');
  });

  it('reads a draft with the token before it', () => {
    const parts = schedulerOf(100);
    const sequence = names.sequence(5, 'a');
    parts.scheduler.add(sequence);
    step(parts);
    sequence.propose('ngram', [7, 8, 9]);

    expect(step(parts)).toBe('a 4');
  });

  it('hands the row of a removed sequence to the next in line, in the very next step', () => {
    const parts = schedulerOf(8);
    const sequences = ['a', 'b', 'c'].map((name) => names.sequence(2, name));
    for (const sequence of sequences) parts.scheduler.add(sequence);

    expect(step(parts)).toBe('a 2, b 2');
    parts.scheduler.remove(sequences[0]!);
    expect(sequences[0]!.row).toBeNull();
    expect(step(parts)).toBe('b 1, c 2');
  });

  it('admits by priority, and in order of arrival among equals', () => {
    const parts = schedulerOf(8, 1);
    const sequences = (['a 5', 'b 1', 'c 5', 'd 1'] as const).map((name) =>
      names.sequence(1, name, { priority: Number(name.slice(2)) }),
    );
    for (const sequence of sequences) parts.scheduler.add(sequence);

    const order: string[] = [];
    while (parts.scheduler.numWaiting + parts.scheduler.running.length > 0) {
      order.push(step(parts));
      parts.scheduler.remove(parts.scheduler.running[0]!);
    }
    expect(order).toEqual(['b 1 1', 'd 1 1', 'a 5 1', 'c 5 1']);
  });

  it('removes one that still waits, and knows which are whose', () => {
    const parts = schedulerOf(8, 1);
    const [a, b] = [names.sequence(1, 'a'), names.sequence(1, 'b')];
    parts.scheduler.add(a);
    parts.scheduler.add(b);
    step(parts);
    expect(parts.scheduler.sequencesOf(b.requestId)).toEqual([b]);
    parts.scheduler.remove(b);

    expect(parts.scheduler.numWaiting).toBe(0);
    expect(parts.scheduler.sequencesOf(b.requestId)).toEqual([]);
    expect(parts.scheduler.sequencesOf(a.requestId)).toEqual([a]);
  });

  it('leaves to others what one of them reads, until the prompt is read', () => {
    const cache = new KvCache(shape, 3);
    const listener = {
      onRowTaken: () => {},
      onRowLost: () => {},
      isReadBy: (sequence: Sequence, others: readonly Sequence[]) =>
        names.of(sequence) === 'follower' && others.some((other) => names.of(other) === 'leader'),
    };
    const limits = { maxSequences: 3, maxBatchedTokens: 9 };
    const parts = { cache, scheduler: new Scheduler(limits, cache, listener) };
    for (const name of ['leader', 'follower', 'other']) {
      parts.scheduler.add(names.sequence(5, name));
    }
    expect(step(parts)).toBe('leader 5, other 4');
    parts.scheduler.remove(parts.scheduler.running[0]!);
    expect(step(parts)).toBe('other 1, follower 5');
    expect(step(parts)).toBe('follower 1, other 1');
  });

  it('keeps to its limits and forgets nobody over 2,000 random steps', () => {
    const rng = seededRng(31);
    const limits = { maxSequences: 5, maxBatchedTokens: 20 };
    const parts = schedulerOf(limits.maxBatchedTokens, limits.maxSequences);
    const alive = new Set<Sequence>();
    for (let i = 0; i < 2_000; i += 1) {
      if (rng() < 0.15) {
        const sequence = names.sequence(integerFrom(rng, 1, 150), `${i}`, {
          priority: integerFrom(rng, 1, 4),
        });
        alive.add(sequence);
        parts.scheduler.add(sequence);
      }
      const isWaiting = parts.scheduler.numWaiting > 0;
      parts.scheduler.admit(0);
      const chunks = parts.scheduler.schedule();

      const { running, numWaiting } = parts.scheduler;
      expect(running.length + numWaiting).toBe(alive.size);
      if (isWaiting) expect(running.length === limits.maxSequences || numWaiting === 0).toBe(true);
      const total = chunks.reduce((sum, { numTokens }) => sum + numTokens, 0);
      expect(total).toBeLessThanOrEqual(limits.maxBatchedTokens);
      expect(new Set(chunks.map(({ sequence }) => sequence)).size).toBe(chunks.length);
      for (const { sequence, numTokens } of chunks) {
        expect(numTokens).toBeGreaterThan(0);
        expect(numTokens).toBeLessThanOrEqual(sequence.roomInChunk);
        expect(running).toContain(sequence);
      }
      for (const sequence of running.filter(({ isDecoding }) => isDecoding)) {
        expect(chunks.map((chunk) => chunk.sequence)).toContain(sequence);
      }

      read(parts.cache, chunks);
      if (alive.size === 0 || rng() < 0.75) continue;
      const gone = pickFrom(rng, [...alive]);
      parts.scheduler.remove(gone);
      alive.delete(gone);
    }
  });
});
