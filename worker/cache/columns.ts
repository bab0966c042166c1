import { BLOCK_SIZE } from '../../shared/block-size.ts';

/** All sizes in tokens. */
export interface SinkWindow {
  /**
   * The first tokens, kept forever: attention collects on them whatever they contain. At most a
   * block.
   */
  readonly numSinks: number;
  /** The latest tokens, itself included, that a token looks at. */
  readonly windowSize: number;
}

/**
 * Whether a token sees sinks and window, where before it sees all that there is, as they still
 * touch.
 */
export function hasSlid(position: number, { numSinks, windowSize }: SinkWindow): boolean {
  return position >= numSinks + windowSize;
}

/**
 * From where a token looks at the sinks: the last column of a cache that holds sinks and window
 * side by side, so that they stay just before the window however far the text has come.
 */
export function placeOf(position: number, { numSinks, windowSize }: SinkWindow): number {
  return Math.min(position, numSinks + windowSize - 1);
}

/**
 * Frozen blocks of a row whose window slides. Any window touches that many before the block that is
 * being filled, and until it slides the sinks are among them.
 */
export function numRingBlocks({ numSinks, windowSize }: SinkWindow): number {
  return Math.max(1, Math.ceil((numSinks + windowSize - 1) / BLOCK_SIZE));
}

/**
 * Where in a row's frozen part a block lies. The ring turns by whole blocks, so a text of any
 * length fits and nothing is ever moved.
 *
 * With a ring of 3 blocks, blocks 0, 2, 3 and 7 are in slots 0, 2, 0 and 1.
 *
 * Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
 *
 * @param sinkWindow `null` for a row that does not slide
 */
export function slotOf(block: number, sinkWindow: SinkWindow | null): number {
  return sinkWindow === null ? block : block % numRingBlocks(sinkWindow);
}

/** Tokens of a row in frozen blocks that are still there. */
export function numKeptTokens(numFrozen: number, sinkWindow: SinkWindow | null): number {
  return sinkWindow === null
    ? numFrozen
    : Math.min(numFrozen, numRingBlocks(sinkWindow) * BLOCK_SIZE);
}

/**
 * Tokens that a chunk behind `numTokens` may have: it stays within its block, and does not both
 * hold sinks and look at them as such.
 */
export function roomInChunk(numTokens: number, sinkWindow: SinkWindow | null): number {
  const room = BLOCK_SIZE - (numTokens % BLOCK_SIZE);
  const numSinks = sinkWindow?.numSinks ?? 0;
  return numTokens < numSinks ? Math.min(room, numSinks - numTokens) : room;
}
