import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import {
  numRingBlocks,
  placeOf,
  roomInChunk,
  type SinkWindow,
  slotOf,
} from '../../../worker/cache/columns.ts';
import { KvCache } from '../../../worker/cache/kv-cache.ts';
import { type CacheShape, SINK_CAPACITY, TAIL_CAPACITY } from '../../../worker/cache/layout.ts';
import { seesSinks, unmask, unmaskSliding } from '../../../worker/cache/mask.ts';
import type { CacheRow } from '../../../worker/cache/row.ts';
import { newTokensOf } from '../../support/naive-cache.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

const shape: CacheShape = { numLayers: 2, numKvHeads: 2, headDim: 3 };

describe('slotOf', () => {
  it('turns by whole blocks', () => {
    // 153 tokens touch three blocks before their own.
    const sinkWindow = { numSinks: 4, windowSize: 150 };
    expect(numRingBlocks(sinkWindow)).toBe(3);
    expect([0, 2, 3, 7].map((block) => slotOf(block, sinkWindow))).toEqual([0, 2, 0, 1]);
    expect(slotOf(7, null)).toBe(7);
  });
});

describe('placeOf', () => {
  it('counts up to the end of the window and stays there', () => {
    const sinkWindow = { numSinks: 4, windowSize: 8 };
    expect([0, 3, 10, 11, 12, 5_000_000].map((at) => placeOf(at, sinkWindow))).toEqual([
      0, 3, 10, 11, 11, 11,
    ]);
  });
});

describe('roomInChunk', () => {
  it('ends a chunk with the sinks and with the block', () => {
    const sinkWindow = { numSinks: 4, windowSize: 8 };
    expect([0, 3, 4, 63, 64].map((at) => roomInChunk(at, sinkWindow))).toEqual([4, 1, 60, 1, 64]);
    expect(roomInChunk(3, null)).toBe(61);
  });
});

/** Tokens in the columns that a mask opens for one new token, in the order of the columns. */
function tokensSeen(cache: KvCache, row: CacheRow): { sinks: number[]; others: number[] } {
  const { frozenCapacity, numTokens, sinkWindow } = row;
  const chunk = { numCached: numTokens, numTokens: 1 };
  const sinkCapacity = seesSinks(chunk, sinkWindow) ? SINK_CAPACITY : 0;
  const columns = { sinkCapacity, frozenCapacity };
  const mask = new Float32Array(sinkCapacity + frozenCapacity + TAIL_CAPACITY).fill(-1);
  if (sinkWindow === null) unmask(mask, columns, chunk, null);
  else unmaskSliding(mask, columns, chunk, sinkWindow);
  const own = sinkCapacity + frozenCapacity + (numTokens % BLOCK_SIZE);
  expect(mask[own]).toBe(0); // the token itself, which is not there yet
  mask[own] = -1;

  const open = [...mask.keys()].filter((column) => mask[column] === 0);
  const frozenEnd = sinkCapacity + frozenCapacity;
  const tokensIn = (part: 'sink' | 'frozen' | 'tail', start: number, end: number) =>
    open
      .filter((column) => column >= start && column < end)
      .map((column) => tokenIn(cache, row, { part, column: column - start }));
  return {
    sinks: tokensIn('sink', 0, sinkCapacity),
    others: [
      ...tokensIn('frozen', sinkCapacity, frozenEnd),
      ...tokensIn('tail', frozenEnd, mask.length),
    ],
  };
}

/** @throws {Error} when the numbers of a column are not those of one token */
function tokenIn(
  cache: KvCache,
  { frozenCapacity, index }: CacheRow,
  { part, column }: { readonly part: 'sink' | 'frozen' | 'tail'; readonly column: number },
): number {
  const capacity = { sink: SINK_CAPACITY, frozen: frozenCapacity, tail: TAIL_CAPACITY }[part];
  const tokens = new Set<number>();
  for (const [layer, parts] of cache.view(frozenCapacity, index, index + 1).entries()) {
    for (const [i, numbers] of [parts[`${part}Keys`], parts[`${part}Values`]].entries()) {
      for (let head = 0; head < shape.numKvHeads; head += 1) {
        for (let d = 0; d < shape.headDim; d += 1) {
          const number = numbers[(head * capacity + column) * shape.headDim + d]!;
          tokens.add((number - i * 128 - layer * 32 - head * 8 - d) / 256);
        }
      }
    }
  }
  const [token] = tokens;
  if (tokens.size !== 1 || token === undefined) throw new Error(`a column of ${[...tokens]}`);
  return token;
}

/** Positions that a token sees: all, or the sinks and the latest. */
function positionsSeen(position: number, sinkWindow: SinkWindow | null): number[] {
  const all = Array.from({ length: position }, (_, i) => i);
  if (sinkWindow === null || position < sinkWindow.numSinks + sinkWindow.windowSize) return all;
  const { numSinks, windowSize } = sinkWindow;
  return all.filter((other) => other < numSinks || position - other < windowSize);
}

const WINDOWS: readonly (SinkWindow | null)[] = [
  null,
  { numSinks: 4, windowSize: 60 },
  { numSinks: 0, windowSize: 64 },
  { numSinks: 4, windowSize: 1 },
  { numSinks: 64, windowSize: 65 },
  { numSinks: 7, windowSize: 250 },
];

/** A cache, and beside it the tokens that its rows were given. */
class SlidingRows {
  readonly #cache = new KvCache(shape, 5);
  readonly #tokensByRow = new Map<CacheRow, number[]>();
  #numTokens = 0;

  operate(rng: Rng): void {
    const rows = [...this.#tokensByRow.keys()];
    const kind = rng();
    if (rows.length === 0 || (kind < 0.05 && rows.length < 5)) {
      this.#tokensByRow.set(this.#cache.open(pickFrom(rng, WINDOWS)), []);
      return;
    }
    const row = pickFrom(rng, rows);
    const tokens = this.#tokensByRow.get(row)!;
    if (kind < 0.055) {
      this.#cache.release(row);
      this.#tokensByRow.delete(row);
    } else if (kind < 0.06 || tokens.length > 900) {
      this.#cache.clear(row);
      tokens.length = 0;
    } else {
      this.#append(row, integerFrom(rng, 1, roomInChunk(row.numTokens, row.sinkWindow) + 1));
    }
  }

  #append(row: CacheRow, count: number): void {
    const fresh = Array.from({ length: count }, () => {
      this.#numTokens = (this.#numTokens % 60_000) + 1;
      return this.#numTokens;
    });
    const call = { numNewTokens: count, row: 0, numRows: 1 };
    this.#cache.append(row, count, newTokensOf(shape, fresh, call));
    this.#tokensByRow.get(row)!.push(...fresh);
  }

  /** @returns how many rows have slid */
  check(): number {
    let numSlid = 0;
    for (const [row, known] of this.#tokensByRow) {
      const { sinks, others } = tokensSeen(this.#cache, row);
      const expected = positionsSeen(known.length, row.sinkWindow).map((at) => known[at]!);
      const numSinks = sinks.length > 0 ? row.sinkWindow!.numSinks : 0;
      numSlid += Math.sign(numSinks);
      expect([...sinks, ...others].sort(ascending)).toEqual(expected.sort(ascending));
      expect(sinks).toEqual(known.slice(0, numSinks));
    }
    return numSlid;
  }
}

describe('rows of a KvCache whose window slides', () => {
  it('hold sinks and window, and in sinks columns nothing else, whoever comes, goes or grows beside them', () => {
    const rng = seededRng(4);
    const rows = new SlidingRows();
    let numSlid = 0;
    for (let step = 0; step < 4000; step += 1) {
      rows.operate(rng);
      if (step % 5 === 0) numSlid += rows.check();
    }
    expect(numSlid).toBeGreaterThan(200);
  });

  it('take no more columns than their ring has', () => {
    const cache = new KvCache(shape, 1);
    const row = cache.open({ numSinks: 4, windowSize: 60 });
    for (let block = 0; block < 50; block += 1) {
      while (row.numTokens < (block + 1) * BLOCK_SIZE) {
        const count = roomInChunk(row.numTokens, row.sinkWindow);
        const call = { numNewTokens: count, row: 0, numRows: 1 };
        cache.append(row, count, newTokensOf(shape, Array<number>(count).fill(9), call));
      }
    }
    expect(row.frozenCapacity).toBe(BLOCK_SIZE);
    expect(() => cache.truncate(row, row.numTokens - 1)).toThrow(InvariantError);
    expect(() => cache.readBlock(row, 0)).toThrow(InvariantError);
  });
});

function ascending(a: number, b: number): number {
  return a - b;
}
