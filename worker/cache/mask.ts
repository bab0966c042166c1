import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { hasSlid, type SinkWindow, slotOf } from './columns.ts';
import { TAIL_CAPACITY } from './layout.ts';

/** New tokens of one row of a batch. */
export interface MaskedChunk {
  /** Tokens of the row that are in the cache before them. */
  readonly numCached: number;
  readonly numTokens: number;
}

/** Columns before those of the tail, as the rows of a batch share them. */
export interface ColumnCounts {
  /** 0 where no row of the batch looks at sinks. */
  readonly sinkCapacity: number;
  readonly frozenCapacity: number;
}

export function numColumns({ sinkCapacity, frozenCapacity }: ColumnCounts): number {
  return sinkCapacity + frozenCapacity + TAIL_CAPACITY;
}

/**
 * Writes what the new tokens of one row may look at: 0 for each column that holds one of the last
 * `slidingWindow` positions up to the token's own. The rest of `mask` is left as it is, MASKED.
 *
 * @param mask [numNewTokens, numColumns], the row's part of the batch's
 */
export function unmask(
  mask: Float32Array,
  columns: ColumnCounts,
  { numCached, numTokens }: MaskedChunk,
  slidingWindow: number | null,
): void {
  for (let i = 0; i < numTokens; i += 1) {
    const position = numCached + i;
    const first = slidingWindow === null ? 0 : Math.max(0, position - slidingWindow + 1);
    const start = i * numColumns(columns);
    unmaskRange(mask, columns, { start, numCached, first, end: position + 1, sinkWindow: null });
  }
}

/**
 * The same for a row whose window slides: all that there is, and when that is more than sinks and
 * window, these. A token that has slid sees the sinks in columns of their own.
 */
export function unmaskSliding(
  mask: Float32Array,
  columns: ColumnCounts,
  { numCached, numTokens }: MaskedChunk,
  sinkWindow: SinkWindow,
): void {
  for (let i = 0; i < numTokens; i += 1) {
    const position = numCached + i;
    const start = i * numColumns(columns);
    const isSliding = hasSlid(position, sinkWindow);
    const first = isSliding ? position - sinkWindow.windowSize + 1 : 0;
    if (isSliding) mask.fill(0, start, start + sinkWindow.numSinks);
    unmaskRange(mask, columns, { start, numCached, first, end: position + 1, sinkWindow });
  }
}

/** Whether a chunk of a row has tokens that see sinks in columns of their own. */
export function seesSinks(
  { numCached, numTokens }: MaskedChunk,
  sinkWindow: SinkWindow | null,
): boolean {
  return (
    sinkWindow !== null && sinkWindow.numSinks > 0 && hasSlid(numCached + numTokens - 1, sinkWindow)
  );
}

interface SeenRange {
  /** Where the token's part of the mask begins. */
  readonly start: number;
  readonly numCached: number;
  /** Positions that it sees. */
  readonly first: number;
  readonly end: number;
  readonly sinkWindow: SinkWindow | null;
}

function unmaskRange(
  mask: Float32Array,
  { sinkCapacity, frozenCapacity }: ColumnCounts,
  { start, numCached, first, end, sinkWindow }: SeenRange,
): void {
  const numFrozen = numCached - (numCached % BLOCK_SIZE);
  const frozen = start + sinkCapacity;
  if (sinkWindow === null) {
    if (first < numFrozen) mask.fill(0, frozen + first, frozen + numFrozen);
  } else {
    for (let position = first; position < numFrozen; ) {
      const block = Math.floor(position / BLOCK_SIZE);
      const column = slotOf(block, sinkWindow) * BLOCK_SIZE + (position % BLOCK_SIZE);
      const blockEnd = (block + 1) * BLOCK_SIZE;
      mask.fill(0, frozen + column, frozen + column + blockEnd - position);
      position = blockEnd;
    }
  }
  const tail = frozen + frozenCapacity;
  mask.fill(0, tail + Math.max(0, first - numFrozen), tail + end - numFrozen);
}

/**
 * Writes what side tokens, read behind the chunk in the same row, may look at: all that is cached,
 * the first token of the chunk, and those of each other that `visible` names. Nothing else ever
 * looks at them.
 *
 * @param visible [numSide] indices of side tokens
 */
export function unmaskSide(
  mask: Float32Array,
  columns: ColumnCounts,
  { numCached, numTokens }: MaskedChunk,
  visible: readonly (readonly number[])[],
): void {
  const tailLength = numCached % BLOCK_SIZE;
  for (const [i, seen] of visible.entries()) {
    const frozen = (numTokens + i) * numColumns(columns) + columns.sinkCapacity;
    mask.fill(0, frozen, frozen + numCached - tailLength);
    const tail = frozen + columns.frozenCapacity;
    mask.fill(0, tail, tail + tailLength + 1);
    for (const other of seen) mask[tail + tailLength + numTokens + other] = 0;
  }
}
