import { BLOCK_SIZE, TAIL_CAPACITY } from './layout.ts';

/** New tokens of one row of a batch. */
export interface MaskedChunk {
  /** Tokens of the row that are in the cache before them. */
  readonly numCached: number;
  readonly numTokens: number;
}

/**
 * Writes what the new tokens of one row may look at: 0 for each column that holds one of the last
 * `slidingWindow` positions up to the token's own. The rest of `mask` is left as it is, MASKED.
 *
 * @param mask [numNewTokens, frozenCapacity + TAIL_CAPACITY], the row's part of the batch's
 */
export function unmask(
  mask: Float32Array,
  frozenCapacity: number,
  { numCached, numTokens }: MaskedChunk,
  slidingWindow: number | null,
): void {
  const numColumns = frozenCapacity + TAIL_CAPACITY;
  const numFrozen = numCached - (numCached % BLOCK_SIZE);
  for (let i = 0; i < numTokens; i += 1) {
    const position = numCached + i;
    const start = i * numColumns;
    const first = slidingWindow === null ? 0 : Math.max(0, position - slidingWindow + 1);
    if (first < numFrozen) mask.fill(0, start + first, start + numFrozen);
    const tail = start + frozenCapacity;
    mask.fill(0, tail + Math.max(0, first - numFrozen), tail + position - numFrozen + 1);
  }
}
