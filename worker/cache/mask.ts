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

/**
 * Writes what side tokens, read behind the chunk in the same row, may look at: all that is cached, the first
 * token of the chunk, and those of each other that `visible` names. Nothing else ever looks at them.
 *
 * @param visible [numSide] indices of side tokens
 */
export function unmaskSide(
  mask: Float32Array,
  frozenCapacity: number,
  { numCached, numTokens }: MaskedChunk,
  visible: readonly (readonly number[])[],
): void {
  const numColumns = frozenCapacity + TAIL_CAPACITY;
  const tailLength = numCached % BLOCK_SIZE;
  for (const [i, seen] of visible.entries()) {
    const start = (numTokens + i) * numColumns;
    mask.fill(0, start, start + numCached - tailLength);
    const tail = start + frozenCapacity;
    mask.fill(0, tail, tail + tailLength + 1);
    for (const other of seen) mask[tail + tailLength + numTokens + other] = 0;
  }
}
