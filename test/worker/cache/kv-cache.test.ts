import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { CachePair, pairShape } from '../../support/cache-pair.ts';
import { newTokensOf } from '../../support/naive-cache.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

interface Limits {
  readonly maxRows: number;
  readonly maxTokens: number;
}

/** One random operation; rows are let go so that some reach `maxTokens`. */
function operate(pair: CachePair, rng: Rng, { maxRows, maxTokens }: Limits): void {
  const { rows } = pair;
  const kind = rng();
  if (rows.length === 0 || (kind < 0.08 && rows.length < maxRows)) {
    pair.open();
    return;
  }
  const row = pickFrom(rng, rows);
  const room = BLOCK_SIZE - (row.numTokens % BLOCK_SIZE);
  const leaves = rng() < 30 / maxTokens;
  if (leaves || row.numTokens >= maxTokens) {
    pair.release(row);
  } else if (kind < 0.32) {
    const donor = pickFrom(rng, rows);
    const slot = integerFrom(rng, 0, Math.floor(donor.numTokens / BLOCK_SIZE) + 1) - 1;
    if (slot < 0 || room < BLOCK_SIZE) return;
    if (rng() < 0.5) pair.copyBlock(row, donor, slot);
    else pair.copyStart(row, donor, integerFrom(rng, 1, (slot + 1) * BLOCK_SIZE + 1));
  } else if (kind < 0.4) {
    pair.append(row, integerFrom(rng, 1, room + 1));
    const least = Math.floor((row.numTokens - 1) / BLOCK_SIZE) * BLOCK_SIZE;
    pair.truncate(row, integerFrom(rng, least, row.numTokens + 1));
  } else {
    const count = rng() < 0.6 ? room : integerFrom(rng, 0, room + 1);
    const numRows = integerFrom(rng, 1, 4);
    pair.append(row, count, {
      numRows,
      row: integerFrom(rng, 0, numRows),
      numNewTokens: count + integerFrom(rng, 0, 4),
    });
  }
}

describe('KvCache', () => {
  it.each([
    { seed: 1, maxRows: 3, maxTokens: 700, numSteps: 400, interval: 1 },
    { seed: 2, maxRows: 8, maxTokens: 300, numSteps: 400, interval: 1 },
    { seed: 3, maxRows: 1, maxTokens: 1500, numSteps: 200, interval: 1 },
    { seed: 4, maxRows: 6, maxTokens: 5000, numSteps: 1600, interval: 100 },
  ])('gives every row exactly its tokens over random operations, $maxRows rows', (limits) => {
    const rng = seededRng(limits.seed);
    const pair = new CachePair(limits.maxRows);
    for (let step = 0; step < limits.numSteps; step += 1) {
      operate(pair, rng, limits);
      if (step % limits.interval === 0) pair.check();
    }
  });

  it('keeps rows apart when a long one moves to a bank of its own', () => {
    const pair = new CachePair(16);
    const rows = Array.from({ length: 16 }, () => pair.open());
    for (const row of rows) pair.fill(row, 70);
    pair.fill(rows[3]!, 1100);
    pair.check();

    expect(pair.cache.groups.length).toBe(2);
    expect(rows[3]!.frozenCapacity).toBe(2048);
    expect(pair.cache.groups[0]!.rows).toHaveLength(15);
  });

  it('brings rows back together when the long one goes', () => {
    const pair = new CachePair(3);
    const rows = [pair.open(), pair.open(), pair.open()];
    pair.fill(rows[0]!, 4200);
    pair.fill(rows[1]!, 100);
    pair.release(rows[0]!);
    pair.check();

    expect(pair.cache.groups.map(({ frozenCapacity }) => frozenCapacity)).toEqual([64]);
  });

  it('reads short rows with a long one while they are few', () => {
    const pair = new CachePair(4);
    pair.fill(pair.open(), 1100);
    const groups = [1, 2, 3].map(() => {
      pair.fill(pair.open(), 10);
      pair.check();
      return pair.cache.groups.map(
        ({ frozenCapacity, rows }) => `${rows.length} of ${frozenCapacity}`,
      );
    });
    expect(groups).toEqual([['2 of 2048'], ['3 of 2048'], ['3 of 64', '1 of 2048']]);
  });

  it.each([1, 2, 5])('takes whole blocks beside %d shorter rows', (numOthers) => {
    const pair = new CachePair(numOthers + 2);
    const donor = pair.open();
    pair.fill(donor, 40 * BLOCK_SIZE);
    for (let i = 0; i < numOthers; i += 1) pair.fill(pair.open(), 10);
    const row = pair.open();
    for (let slot = 0; slot < 40; slot += 1) {
      pair.copyBlock(row, donor, slot);
      pair.check();
    }
  });

  it('gives the same views for the same rows while they stay', () => {
    const pair = new CachePair(4);
    const rows = [pair.open(), pair.open()];
    const before = pair.cache.view(64, 0, 2);
    for (const row of rows) pair.fill(row, 40);
    expect(pair.cache.view(64, 0, 2)).toBe(before);
    expect(before[0]!.tailKeys).not.toHaveLength(0);
  });

  it('shows a range of rows as one', () => {
    const pair = new CachePair(4);
    const rows = [pair.open(), pair.open(), pair.open()];
    for (const row of rows) pair.fill(row, 3);
    const [one] = pair.cache.view(64, 1, 2);
    const [both] = pair.cache.view(64, 1, 3);
    expect(both!.tailValues.subarray(0, one!.tailValues.length)).toEqual(one!.tailValues);
    expect(both!.tailValues).toHaveLength(2 * one!.tailValues.length);
  });

  it('forgets only what the tail still holds', () => {
    const pair = new CachePair(1);
    const row = pair.open();
    pair.fill(row, 130);
    expect(() => pair.cache.truncate(row, 127)).toThrow('a row of 130 tokens cannot be cut to 127');
    expect(() => pair.cache.truncate(row, 131)).toThrow(InvariantError);
    pair.truncate(row, 128);
    pair.fill(row, 140);
    pair.check();
  });

  it('takes back a block that was full', () => {
    const pair = new CachePair(2);
    const row = pair.open();
    pair.open();
    pair.fill(row, 128);
    pair.truncate(row, 70);
    pair.check();
    pair.fill(row, 200);
    pair.check();
  });

  it('refuses chunks across the end of a block, blocks in the middle of one, rows it does not have', () => {
    const pair = new CachePair(1);
    const row = pair.open();
    expect(() => pair.cache.open()).toThrow('more rows than the cache has');
    pair.fill(row, 60);
    const { cache } = pair;
    const call = { numNewTokens: 5, row: 0, numRows: 1 };
    expect(() => cache.append(row, 5, newTokensOf(pairShape, [1, 2, 3, 4, 5], call))).toThrow(
      'crosses',
    );
    expect(() => cache.readBlock(row, 0)).toThrow('block 0 is not frozen yet');
    pair.fill(row, 64);
    const block = cache.readBlock(row, 0);
    pair.fill(row, 65);
    const known = { blocks: [block], part: null };
    expect(() => cache.appendKnown(row, known)).toThrow(InvariantError);
    pair.release(row);
    expect(() => cache.release(row)).toThrow('a row that was released');
  });
});
