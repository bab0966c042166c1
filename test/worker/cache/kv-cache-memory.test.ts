import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { rowBytes } from '../../../worker/cache/layout.ts';
import { CachePair, pairShape } from '../../support/cache-pair.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

const bytesOf = (...capacities: number[]) =>
  capacities.reduce((sum, capacity) => sum + rowBytes(pairShape, capacity), 0);

/** What the rows of a pair need until their next blocks are full. */
function bytesNeeded({ rows, cache }: CachePair): number {
  return rows.reduce((sum, row) => sum + cache.bytesFor(row.numTokens, row.sinkWindow), 0);
}

/**
 * One random operation, after which the rows need no more than there is.
 *
 * @returns whether a parked row was still there, `null` where none came back
 */
function operate(pair: CachePair, rng: Rng): boolean | null {
  const { rows, cache } = pair;
  const kind = rng();
  const parked = [...pair.tokensByParked.keys()];
  const numFree = cache.maxBytes - bytesNeeded(pair);
  if (kind < 0.15 && rows.length < 6 && numFree >= bytesOf(BLOCK_SIZE)) pair.open();
  else if (kind < 0.3 && parked.length > 0 && rows.length < 6) {
    const row = pickFrom(rng, parked);
    if (numFree >= cache.bytesFor(row.numTokens, null)) return pair.unpark(row);
  } else if (rows.length > 0) {
    const row = pickFrom(rng, rows);
    const room = BLOCK_SIZE - (row.numTokens % BLOCK_SIZE);
    const isFull = bytesNeeded(pair) > cache.maxBytes - bytesOf(2048) && room === 1;
    if (kind < 0.4) pair.park(row);
    else if (kind < 0.42 || isFull || row.numTokens > 900) pair.release(row);
    else pair.append(row, rng() < 0.6 ? room : integerFrom(rng, 1, room + 1));
    while (bytesNeeded(pair) > cache.maxBytes) pair.release(pair.rows.at(-1)!);
  }
  return null;
}

describe('KvCache within a budget', () => {
  it.each([1, 2, 3, 4])(
    'holds every row, and of parked ones those that there is memory for (%d)',
    (seed) => {
      const rng = seededRng(seed);
      const pair = new CachePair(6, { maxBytes: bytesOf(1024, 1024, 256, 64) });
      const outcomes: (boolean | null)[] = [];
      for (let step = 0; step < 1500; step += 1) {
        outcomes.push(operate(pair, rng));
        expect(pair.cache.numBytes).toBeLessThanOrEqual(pair.cache.maxBytes);
        if (step % 7 === 0) pair.check();
      }
      expect(outcomes.filter((isBack) => isBack === true).length).toBeGreaterThan(20);
      expect(outcomes.filter((isBack) => isBack === false).length).toBeGreaterThan(5);
    },
  );

  it('gives all memory back with the last row', () => {
    const pair = new CachePair(4);
    for (const numTokens of [10, 200, 500]) pair.fill(pair.open(), numTokens);
    const [first, ...others] = pair.rows;
    pair.park(first!);
    for (const row of others) pair.release(row);
    expect(pair.cache.numBytes).toBe(bytesOf(64));
    pair.cache.discard(first!);
    pair.cache.discard(first!);
    expect(pair.cache.numBytes).toBe(0);
  });

  it('gives memory back of rows that have left a bank', () => {
    const pair = new CachePair(16);
    const rows = Array.from({ length: 16 }, () => pair.open());
    expect(pair.cache.numBytes).toBe(16 * bytesOf(64));
    for (const row of rows.slice(4)) pair.release(row);
    expect(pair.cache.numBytes).toBe(8 * bytesOf(64));
    for (const row of rows.slice(1, 4)) pair.release(row);
    expect(pair.cache.numBytes).toBeLessThanOrEqual(2 * bytesOf(64));
  });

  it('does not make short rows as long as others where there is no memory for it', () => {
    const lavish = new CachePair(3);
    const tight = new CachePair(3, { maxBytes: bytesOf(1024, 64, 64) });
    for (const pair of [lavish, tight]) {
      pair.fill(pair.open(), 1000);
      for (let i = 0; i < 2; i += 1) pair.fill(pair.open(), 30);
      pair.check();
    }
    expect(lavish.cache.groups.map(({ rows }) => rows.length)).toEqual([3]);
    expect(tight.cache.groups.map(({ rows }) => rows.length)).toEqual([2, 1]);
    expect(tight.cache.numBytes).toBe(tight.cache.maxBytes);
  });

  it('keeps a parked row until its memory is needed, the one that was parked last first', () => {
    const pair = new CachePair(3, { maxBytes: bytesOf(128, 128, 128) });
    const [first, second] = [pair.open(), pair.open()];
    for (const row of [first, second]) pair.fill(row, 100);
    pair.park(first);
    pair.park(second);
    expect(pair.tokensByParked.size).toBe(2);
    const third = pair.open();
    pair.fill(third, 120);
    pair.fill(pair.open(), 60);

    expect(pair.unpark(second)).toBe(false);
    pair.release(third);
    expect(pair.unpark(first)).toBe(true);
    pair.check();
    expect(() => pair.cache.park(second)).toThrow(InvariantError);
  });

  it('says what a row needs until its block is full, as far as it is kept', () => {
    const { cache } = new CachePair(1, { maxCapacity: 640 });
    const needed = [0, 63, 64, 127, 128, 600, 640].map((numTokens) =>
      cache.bytesFor(numTokens, null),
    );
    expect(needed).toEqual([64, 64, 128, 128, 256, 640, 640].map((each) => bytesOf(each)));
    const sliding = cache.bytesFor(100_000, { numSinks: 4, windowSize: 120 });
    expect(sliding).toBe(bytesOf(128));
  });

  it('lets no row grow beyond the capacity that it was given', () => {
    const pair = new CachePair(1, { maxCapacity: 192 });
    const row = pair.open();
    pair.fill(row, 200);
    expect(row.frozenCapacity).toBe(192);
    expect(() => pair.fill(row, 256)).toThrow(InvariantError);
  });
});
