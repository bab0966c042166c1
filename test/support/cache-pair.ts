import { expect } from 'vitest';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { KvCache, type MemoryLimits } from '../../worker/cache/kv-cache.ts';
import type { CacheShape } from '../../worker/cache/layout.ts';
import type { CacheRow } from '../../worker/cache/row.ts';
import { newTokensOf, tokensOfRow } from './naive-cache.ts';

export const pairShape: CacheShape = { numLayers: 2, numKvHeads: 2, headDim: 3 };

/** A cache, and beside it the tokens that each of its rows must hold. */
export class CachePair {
  readonly cache: KvCache;
  readonly tokensByRow = new Map<CacheRow, number[]>();
  readonly tokensByParked = new Map<CacheRow, number[]>();
  #nextToken = 1;

  constructor(maxRows: number, limits: MemoryLimits = {}) {
    this.cache = new KvCache(pairShape, maxRows, limits);
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
    this.cache.append(row, count, newTokensOf(pairShape, tokens, call));
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

  /** Takes a row away; what it held must be there when it comes back. */
  park(row: CacheRow): void {
    const tokens = this.tokensByRow.get(row)!;
    this.tokensByRow.delete(row);
    if (this.cache.park(row)) this.tokensByParked.set(row, tokens);
  }

  /** @returns whether it was still there */
  unpark(row: CacheRow): boolean {
    const tokens = this.tokensByParked.get(row)!;
    this.tokensByParked.delete(row);
    const isBack = this.cache.unpark(row);
    if (isBack) this.tokensByRow.set(row, tokens);
    return isBack;
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
      const seen = tokensOfRow(this.cache, pairShape, row);
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
