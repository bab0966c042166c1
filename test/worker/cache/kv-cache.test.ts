import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { type CacheRow, KvCache } from '../../../worker/cache/kv-cache.ts';
import { BLOCK_SIZE, type CacheShape } from '../../../worker/cache/layout.ts';
import { newTokensOf, tokensOfRow } from '../../support/naive-cache.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

const shape: CacheShape = { numLayers: 2, numKvHeads: 2, headDim: 3 };

/** A cache, and beside it the tokens that each of its rows must hold. */
class Pair {
  readonly cache: KvCache;
  readonly tokensByRow = new Map<CacheRow, number[]>();
  #nextToken = 1;

  constructor(maxRows: number) {
    this.cache = new KvCache(shape, maxRows);
  }

  get rows(): CacheRow[] {
    return [...this.tokensByRow.keys()];
  }

  open(): CacheRow {
    const row = this.cache.open();
    this.tokensByRow.set(row, []);
    return row;
  }

  release(row: CacheRow): void {
    this.cache.release(row);
    this.tokensByRow.delete(row);
  }

  /** Appends the first `count` of the tokens that a call with more rows and tokens gave. */
  append(row: CacheRow, count: number, call = { numNewTokens: count, row: 0, numRows: 1 }): void {
    const tokens = this.#newTokens(count);
    this.cache.append(row, count, newTokensOf(shape, tokens, call));
    this.tokensByRow.get(row)!.push(...tokens);
  }

  /** Appends tokens up to `numTokens`, block by block. */
  fill(row: CacheRow, numTokens: number): void {
    while (row.numTokens < numTokens) {
      const room = BLOCK_SIZE - (row.numTokens % BLOCK_SIZE);
      this.append(row, Math.min(room, numTokens - row.numTokens));
    }
  }

  truncate(row: CacheRow, numTokens: number): void {
    this.cache.truncate(row, numTokens);
    this.tokensByRow.get(row)!.length = numTokens;
  }

  /** Copies blocks of one row behind the blocks of another. */
  copyBlock(to: CacheRow, from: CacheRow, slot: number): void {
    const block = this.cache.readBlock(from, slot);
    const tokens = this.tokensByRow.get(from)!.slice(slot * BLOCK_SIZE, (slot + 1) * BLOCK_SIZE);
    this.cache.appendKnown(to, { blocks: [block], part: null });
    this.tokensByRow.get(to)!.push(...tokens);
  }

  /** Copies so many tokens of one row, from its beginning, behind the blocks of another. */
  copyStart(to: CacheRow, from: CacheRow, count: number): void {
    const numBlocks = Math.floor(count / BLOCK_SIZE);
    const numTokens = count % BLOCK_SIZE;
    const blocks = Array.from({ length: numBlocks }, (_, i) => this.cache.readBlock(from, i));
    const block = numTokens > 0 ? this.cache.readBlock(from, numBlocks) : null;
    const tokens = this.tokensByRow.get(from)!.slice(0, count);
    this.cache.appendKnown(to, { blocks, part: block && { block, numTokens } });
    this.tokensByRow.get(to)!.push(...tokens);
  }

  /** Asserts that every row holds exactly its tokens, and that rows lie side by side. */
  check(): void {
    expect(this.cache.numRows).toBe(this.tokensByRow.size);
    for (const [row, tokens] of this.tokensByRow) {
      if (row.numTokens !== tokens.length) expect.fail(`${row.numTokens}, not ${tokens.length}`);
      const seen = tokensOfRow(this.cache, shape, row);
      if (seen.join() !== tokens.join()) expect(seen).toEqual(tokens);
    }
    const { groups } = this.cache;
    expect(groups.flatMap(({ rows }) => rows)).toHaveLength(this.tokensByRow.size);
    for (const { frozenCapacity, rows } of groups) {
      expect(rows.map(({ index }) => index)).toEqual(rows.map((_, i) => i));
      expect(new Set(rows.map((row) => row.frozenCapacity))).toEqual(new Set([frozenCapacity]));
      for (const row of rows) expect(this.tokensByRow.has(row)).toBe(true);
    }
  }

  #newTokens(count: number): number[] {
    return Array.from({ length: count }, () => {
      this.#nextToken = (this.#nextToken % 60_000) + 1;
      return this.#nextToken;
    });
  }
}

interface Limits {
  readonly maxRows: number;
  readonly maxTokens: number;
}

/** One random operation; rows are let go so that some reach `maxTokens`. */
function operate(pair: Pair, rng: Rng, { maxRows, maxTokens }: Limits): void {
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
    const pair = new Pair(limits.maxRows);
    for (let step = 0; step < limits.numSteps; step += 1) {
      operate(pair, rng, limits);
      if (step % limits.interval === 0) pair.check();
    }
  });

  it('keeps rows apart when a long one moves to a bank of its own', () => {
    const pair = new Pair(16);
    const rows = Array.from({ length: 16 }, () => pair.open());
    for (const row of rows) pair.fill(row, 70);
    pair.fill(rows[3]!, 1100);
    pair.check();

    expect(pair.cache.groups.length).toBe(2);
    expect(rows[3]!.frozenCapacity).toBe(2048);
    expect(pair.cache.groups[0]!.rows).toHaveLength(15);
  });

  it('brings rows back together when the long one goes', () => {
    const pair = new Pair(3);
    const rows = [pair.open(), pair.open(), pair.open()];
    pair.fill(rows[0]!, 4200);
    pair.fill(rows[1]!, 100);
    pair.release(rows[0]!);
    pair.check();

    expect(pair.cache.groups.map(({ frozenCapacity }) => frozenCapacity)).toEqual([64]);
  });

  it('reads short rows with a long one while they are few', () => {
    const pair = new Pair(4);
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
    const pair = new Pair(numOthers + 2);
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
    const pair = new Pair(4);
    const rows = [pair.open(), pair.open()];
    const before = pair.cache.view(64, 0, 2);
    for (const row of rows) pair.fill(row, 40);
    expect(pair.cache.view(64, 0, 2)).toBe(before);
    expect(before[0]!.tailKeys).not.toHaveLength(0);
  });

  it('shows a range of rows as one', () => {
    const pair = new Pair(4);
    const rows = [pair.open(), pair.open(), pair.open()];
    for (const row of rows) pair.fill(row, 3);
    const [one] = pair.cache.view(64, 1, 2);
    const [both] = pair.cache.view(64, 1, 3);
    expect(both!.tailValues.subarray(0, one!.tailValues.length)).toEqual(one!.tailValues);
    expect(both!.tailValues).toHaveLength(2 * one!.tailValues.length);
  });

  it('forgets only what the tail still holds', () => {
    const pair = new Pair(1);
    const row = pair.open();
    pair.fill(row, 130);
    expect(() => pair.cache.truncate(row, 127)).toThrow('a row of 130 tokens cannot be cut to 127');
    expect(() => pair.cache.truncate(row, 131)).toThrow(InvariantError);
    pair.truncate(row, 128);
    pair.fill(row, 140);
    pair.check();
  });

  it('takes back a block that was full', () => {
    const pair = new Pair(2);
    const row = pair.open();
    pair.open();
    pair.fill(row, 128);
    pair.truncate(row, 70);
    pair.check();
    pair.fill(row, 200);
    pair.check();
  });

  it('refuses chunks across the end of a block, blocks in the middle of one, rows it does not have', () => {
    const pair = new Pair(1);
    const row = pair.open();
    expect(() => pair.cache.open()).toThrow('more rows than the cache has');
    pair.fill(row, 60);
    const { cache } = pair;
    const call = { numNewTokens: 5, row: 0, numRows: 1 };
    expect(() => cache.append(row, 5, newTokensOf(shape, [1, 2, 3, 4, 5], call))).toThrow(
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
