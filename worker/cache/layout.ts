import { BLOCK_SIZE } from '../../shared/block-size.ts';

/** Tokens a ragged batch may be padded by beyond the end of a tail. */
export const MAX_PADDING = 8;

/**
 * Columns of a row's tail: a block, and room for the padding of a row whose block is nearly full.
 */
export const TAIL_CAPACITY = BLOCK_SIZE + MAX_PADDING;

/** Columns of a row's sinks: those of its first block, of which a mask opens the sinks. */
export const SINK_CAPACITY = BLOCK_SIZE;

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

/** Bytes of a row: its frozen columns, its tail, and those for sinks. */
export function rowBytes(shape: CacheShape, frozenCapacity: number): number {
  return (frozenCapacity + TAIL_CAPACITY + SINK_CAPACITY) * bytesPerToken(shape);
}

/**
 * The least capacity of the frozen part that holds `numTokens`: 64, 128, 256, ..., and at the end
 * the greatest there is, a multiple of 64.
 */
export function frozenCapacityFor(numTokens: number, maxCapacity = Infinity): number {
  let capacity = BLOCK_SIZE;
  while (capacity < numTokens) capacity *= 2;
  return Math.min(capacity, maxCapacity);
}

/**
 * Tokens that one row may have within so many bytes, at most `maxTokens`: those, or a power of two,
 * so that machines of about one size serve one context.
 *
 * @returns 0 where not even a block fits
 */
export function contextWithin(shape: CacheShape, maxBytes: number, maxTokens: number): number {
  if (rowBytes(shape, wholeBlocks(maxTokens)) <= maxBytes) return maxTokens;
  let capacity = BLOCK_SIZE;
  while (rowBytes(shape, 2 * capacity) <= maxBytes) capacity *= 2;
  return rowBytes(shape, capacity) <= maxBytes ? capacity : 0;
}

/** The least multiple of the block size that is not less. */
export function wholeBlocks(numTokens: number): number {
  return Math.ceil(numTokens / BLOCK_SIZE) * BLOCK_SIZE;
}
