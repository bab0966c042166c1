/** Positions per cache block. A chunk stays within one, so that sums never depend on chunking. */
export const BLOCK_SIZE = 64;

/** Tokens a ragged batch may be padded by beyond the end of a tail: the longest draft. */
export const MAX_PADDING = 8;

/**
 * Columns of a row's tail: a block, and room for the padding of a row whose block is nearly full.
 */
export const TAIL_CAPACITY = BLOCK_SIZE + MAX_PADDING;

/** What a cached token takes, over all layers. */
export interface CacheShape {
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Bytes of keys and values that one token takes in all layers. */
export function bytesPerToken({ numLayers, numKvHeads, headDim }: CacheShape): number {
  return numLayers * 2 * numKvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
}

/** The least capacity of the frozen part that holds `numTokens`: 64, 128, 256, ... */
export function frozenCapacityFor(numTokens: number): number {
  let capacity = BLOCK_SIZE;
  while (capacity < numTokens) capacity *= 2;
  return capacity;
}
