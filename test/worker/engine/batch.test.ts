import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { KvCache } from '../../../worker/cache/kv-cache.ts';
import { TAIL_CAPACITY } from '../../../worker/cache/layout.ts';
import { unmask } from '../../../worker/cache/mask.ts';
import type { CacheRow } from '../../../worker/cache/row.ts';
import {
  type Batch,
  buildBatches,
  callLayout,
  type RowRead,
} from '../../../worker/engine/batch.ts';
import { MASKED } from '../../../worker/model/runner.ts';
import { newTokensOf } from '../../support/naive-cache.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 2 };

/** A cache with a row for each length; every row holds its own number. */
function cacheOf(...lengths: readonly number[]): { cache: KvCache; rows: CacheRow[] } {
  const cache = new KvCache(shape, 16);
  const rows = lengths.map(() => cache.open());
  for (const [i, row] of rows.entries()) {
    while (row.numTokens < lengths[i]!) {
      const count = Math.min(BLOCK_SIZE - (row.numTokens % 64), lengths[i]! - row.numTokens);
      const call = { numNewTokens: count, row: 0, numRows: 1 };
      cache.append(row, count, newTokensOf(shape, Array<number>(count).fill(i + 1), call));
    }
  }
  return { cache, rows };
}

/** Asserts that a batch says of each of its reads what there is to say, and of padding nothing. */
function check({ input, reads }: Batch<RowRead>, slidingWindow: number | null): void {
  const { numNewTokens, frozenCapacity } = input;
  const maskLength = numNewTokens * (frozenCapacity + TAIL_CAPACITY);
  const expected = {
    tokenIds: Array<number>(input.numRows * numNewTokens).fill(0),
    positions: Array<number>(input.numRows * numNewTokens).fill(0),
    writeIndices: Array<number>(input.numRows).fill(0),
    mask: new Float32Array(input.numRows * maskLength).fill(MASKED),
    logitIndices: [] as number[],
  };
  for (const { read, row, firstLogits } of reads) {
    const { numTokens } = read.row;
    expected.writeIndices[row] = numTokens % BLOCK_SIZE;
    for (const [i, tokenId] of read.tokenIds.entries()) {
      expected.tokenIds[row * numNewTokens + i] = tokenId;
      expected.positions[row * numNewTokens + i] = numTokens + i;
    }
    const chunk = { numCached: numTokens, numTokens: read.tokenIds.length };
    const rowMask = expected.mask.subarray(row * maskLength, (row + 1) * maskLength);
    unmask(rowMask, { sinkCapacity: 0, frozenCapacity }, chunk, slidingWindow);
    expect(firstLogits).toBe(expected.logitIndices.length);
    for (let i = read.tokenIds.length - read.numLogits; i < read.tokenIds.length; i += 1) {
      expected.logitIndices.push(row * numNewTokens + i);
    }
  }
  expect([...input.tokenIds]).toEqual(expected.tokenIds);
  expect([...input.positions]).toEqual(expected.positions);
  expect([...input.writeIndices]).toEqual(expected.writeIndices);
  expect([...input.logitIndices]).toEqual(expected.logitIndices);
  expect(Buffer.compare(Buffer.from(input.mask.buffer), Buffer.from(expected.mask.buffer))).toBe(0);
}

describe('buildBatches', () => {
  it('puts a token of each row at its position', () => {
    const { cache, rows } = cacheOf(3, 70);
    const reads = rows.map((row, i) => ({ row, tokenIds: [7 + i], numLogits: 1 }));

    const batches = buildBatches(reads, cache, null);

    expect(batches).toHaveLength(1);
    const { input } = batches[0]!;
    expect(input).toMatchObject({ numRows: 2, numNewTokens: 1, frozenCapacity: 64 });
    expect([...input.tokenIds]).toEqual([7, 8]);
    expect([...input.positions]).toEqual([3, 70]);
    expect([...input.writeIndices]).toEqual([3, 6]);
    expect([...input.logitIndices]).toEqual([0, 1]);
  });

  it('counts the logits of a draft from the end of its chunk', () => {
    const { cache, rows } = cacheOf(3, 3);
    const reads = [
      { row: rows[0]!, tokenIds: [5, 6, 7], numLogits: 3 },
      { row: rows[1]!, tokenIds: [8, 9], numLogits: 1 },
    ];

    const [batch] = buildBatches(reads, cache, null);

    expect([...batch!.input.tokenIds]).toEqual([5, 6, 7, 8, 9, 0]);
    expect([...batch!.input.logitIndices]).toEqual([0, 1, 2, 4]);
    expect(batch!.reads.map(({ firstLogits }) => firstLogits)).toEqual([0, 3]);
  });

  it('asks for one token’s logits when none are wanted', () => {
    const { cache, rows } = cacheOf(0);
    const [batch] = buildBatches([{ row: rows[0]!, tokenIds: [5], numLogits: 0 }], cache, null);
    expect([...batch!.input.logitIndices]).toEqual([0]);
  });

  it('has nothing to read without reads', () => {
    const { cache } = cacheOf(3);
    expect(buildBatches([], cache, null)).toEqual([]);
  });

  it.each([null, 5, 64, 90])('reads every row once, as it lies, with a window of %s', (window) => {
    const rng = seededRng(41);
    for (let trial = 0; trial < 60; trial += 1) {
      const lengths = Array.from({ length: integerFrom(rng, 1, 7) }, () =>
        rng() < 0.15 ? integerFrom(rng, 0, 1500) : integerFrom(rng, 0, 140),
      );
      const { cache, rows } = cacheOf(...lengths);
      const reads = rows
        .filter(() => rng() < 0.8)
        .map((row) => {
          const room = BLOCK_SIZE - (row.numTokens % BLOCK_SIZE);
          const numTokens = rng() < 0.6 ? 1 : integerFrom(rng, 1, room + 1);
          const tokenIds = Array.from({ length: numTokens }, () => integerFrom(rng, 1, 99));
          return { row, tokenIds, numLogits: integerFrom(rng, 0, numTokens + 1) };
        })
        .filter(({ numLogits }) => numLogits > 0);

      const batches = buildBatches(reads, cache, window);

      for (const batch of batches) check(batch, window);
      const foreseen = callLayout(
        reads.map(({ row }) => row),
        cache,
      );
      expect(batches.map(({ input }) => input)).toMatchObject(
        foreseen(reads.map(({ tokenIds }) => tokenIds.length)),
      );
      const read = batches.flatMap((batch) => batch.reads.map((each) => each.read));
      expect(new Set(read)).toEqual(new Set(reads));
      expect(read).toHaveLength(reads.length);
      for (const { input, reads } of batches) {
        for (const { read, row } of reads) {
          const own = cache.view(read.row.frozenCapacity, read.row.index, read.row.index + 1);
          const length = own[0]!.tailKeys.length;
          const part = input.layers[0]!.tailKeys.subarray(row * length, (row + 1) * length);
          expect(part.byteOffset).toBe(own[0]!.tailKeys.byteOffset);
          expect(part.buffer).toBe(own[0]!.tailKeys.buffer);
        }
      }
    }
  });
});
