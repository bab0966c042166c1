import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import type { CacheRow } from '../../../worker/cache/row.ts';
import { sequenceOf } from '../../support/sequences.ts';

function rowOf(numTokens: number): CacheRow {
  return { frozenCapacity: 128, index: 0, numTokens, sinkWindow: null };
}

describe('Sequence', () => {
  it('has read nothing without a row', () => {
    const sequence = sequenceOf(5);
    expect(sequence.numComputedTokens).toBe(0);
    expect(sequence.numPendingTokens).toBe(5);
    expect(sequence.isDecoding).toBe(false);
  });

  it('decodes once all but the newest token was read', () => {
    const sequence = sequenceOf(5);
    sequence.row = rowOf(5);
    expect(sequence.isDecoding).toBe(false);
    sequence.accept(7);
    expect(sequence.isDecoding).toBe(true);
    expect(sequence.pendingTokenIds(1)).toEqual([7]);
    expect(sequence.numOutputTokens).toBe(1);
  });

  it('goes on behind the tokens that an earlier claim has published', () => {
    const sequence = sequenceOf(2, { promptTokenIds: [3, 4], publishedTokenIds: [5, 5, 6] });
    expect(sequence.tokenIds).toEqual([3, 4, 5, 5, 6]);
    expect(sequence.numOutputTokens).toBe(3);
    expect([...sequence.history.promptCounts.keys()]).toEqual([3, 4]);
    expect([...sequence.history.outputCounts]).toEqual([
      [5, 2],
      [6, 1],
    ]);
  });

  it('reads known tokens first, and then its draft', () => {
    const sequence = sequenceOf(3);
    sequence.row = rowOf(2);
    sequence.propose('ngram', [8, 9]);

    expect(sequence.numPendingTokens).toBe(3);
    expect(sequence.pendingTokenIds(3)).toEqual([3, 8, 9]);
    expect(sequence.pendingTokenIds(2)).toEqual([3, 8]);
    sequence.dropDraft();
    expect(sequence.numPendingTokens).toBe(1);
  });

  it('refuses a draft while its prompt is being read', () => {
    expect(() => sequenceOf(3).propose('ngram', [8])).toThrow(InvariantError);
  });

  it.each([
    [0, 64],
    [1, 63],
    [63, 1],
    [64, 64],
    [70, 58],
  ])('has, behind %d tokens, room for %d in the block', (numTokens, room) => {
    const sequence = sequenceOf(100);
    sequence.row = rowOf(numTokens);
    expect(sequence.roomInChunk).toBe(room);
  });

  it('takes no token once it is finished', () => {
    const sequence = sequenceOf(1);
    sequence.finishReason = 'stop';
    expect(() => sequence.accept(3)).toThrow('a finished sequence takes no token');
  });
});
