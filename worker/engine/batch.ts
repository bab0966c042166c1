import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { TokenId } from '../../shared/ids.ts';
import type { BankLayer } from '../cache/bank.ts';
import { placeOf } from '../cache/columns.ts';
import type { KvCache } from '../cache/kv-cache.ts';
import { SINK_CAPACITY, TAIL_CAPACITY } from '../cache/layout.ts';
import { numColumns, seesSinks, unmask, unmaskSide, unmaskSliding } from '../cache/mask.ts';
import type { CacheRow } from '../cache/row.ts';
import { MASKED, type ModelInput } from '../model/runner.ts';
import type { SideTokens } from '../speculative/lookahead-window.ts';
import type { TargetCall } from '../speculative/policy.ts';
import { planCalls } from './call-plan.ts';

/** Tokens that a model reads behind those of a row of its cache. */
export interface RowRead {
  readonly row: CacheRow;
  readonly tokenIds: readonly TokenId[];
  /** Of the last so many of them, logits are wanted. */
  readonly numLogits: number;
  /**
   * Guesses of lookahead decoding, read beside a single pending token and its draft; never kept.
   */
  readonly side?: SideTokens | null;
}

/** One call of the model and what it reads. */
export interface Batch<Read extends RowRead> {
  readonly input: ModelInput;
  readonly reads: readonly BatchedRead<Read>[];
}

export interface BatchedRead<Read extends RowRead> {
  readonly read: Read;
  /** Its row within the call. */
  readonly row: number;
  /** Where its logits begin among the call's. */
  readonly firstLogits: number;
  /** Where the logits of its side tokens begin, for those that want them. */
  readonly firstSideLogits: number;
}

/** Lays what is to be read out as calls of the model, over the rows of its cache as they lie. */
export function buildBatches<Read extends RowRead>(
  reads: readonly Read[],
  cache: KvCache,
  slidingWindow: number | null,
): Batch<Read>[] {
  const readByRow = new Map(reads.map((read) => [read.row, read]));
  return cache.groups.flatMap(({ frozenCapacity, rows }) => {
    const readsOfRows = rows.map((row) => readByRow.get(row) ?? null);
    const calls = planCalls(
      rows.map((row, i) => ({
        numTokens: lengthOf(readsOfRows[i] ?? null),
        tailLength: row.numTokens % BLOCK_SIZE,
      })),
    );
    return calls.map(({ start, end, numNewTokens }) =>
      buildBatch(readsOfRows.slice(start, end), {
        frozenCapacity,
        numNewTokens,
        layers: cache.view(frozenCapacity, start, end),
        slidingWindow,
      }),
    );
  });
}

/**
 * What calls these rows of a cache are read in, by what each of them reads: as `buildBatches` lays
 * them out, were they all.
 *
 * @param rows [numRows]
 * @returns a function of [numRows] tokens
 */
export function callLayout(
  rows: readonly CacheRow[],
  cache: KvCache,
): (numTokens: readonly number[]) => TargetCall[] {
  const indexByRow = new Map(rows.map((row, i) => [row, i]));
  const groups = cache.groups.map(({ frozenCapacity, rows: grouped }) => {
    const places = grouped.map((row) => ({
      index: indexByRow.get(row) ?? -1, // sits the step out
      tailLength: row.numTokens % BLOCK_SIZE,
      numTokens: 0,
    }));
    return { frozenCapacity, places };
  });
  return (numTokens) => {
    const calls: TargetCall[] = [];
    for (const { frozenCapacity, places } of groups) {
      for (const place of places) place.numTokens = numTokens[place.index] ?? 0;
      for (const { start, end, numNewTokens } of planCalls(places)) {
        calls.push({ numRows: end - start, numNewTokens, frozenCapacity });
      }
    }
    return calls;
  };
}

function lengthOf(read: RowRead | null): number {
  return read === null ? 0 : read.tokenIds.length + (read.side?.tokenIds.length ?? 0);
}

function looksAtSinks(read: RowRead | null): boolean {
  if (read === null) return false;
  const { numTokens, sinkWindow } = read.row;
  return seesSinks({ numCached: numTokens, numTokens: read.tokenIds.length }, sinkWindow);
}

interface BatchShape {
  readonly frozenCapacity: number;
  readonly numNewTokens: number;
  readonly layers: readonly BankLayer[];
  readonly slidingWindow: number | null;
}

/** @param reads [numRows], `null` for a row that sits this step out */
function buildBatch<Read extends RowRead>(
  reads: readonly (Read | null)[],
  { frozenCapacity, numNewTokens, layers, slidingWindow }: BatchShape,
): Batch<Read> {
  const numRows = reads.length;
  const sinkCapacity = reads.some(looksAtSinks) ? SINK_CAPACITY : 0;
  const columns = { sinkCapacity, frozenCapacity };
  const maskLength = numNewTokens * numColumns(columns);
  const tokenIds = new Int32Array(numRows * numNewTokens);
  const positions = new Int32Array(numRows * numNewTokens);
  const places = new Int32Array(numRows * numNewTokens);
  const writeIndices = new Int32Array(numRows);
  const mask = new Float32Array(numRows * maskLength).fill(MASKED);
  const logitIndices: number[] = [];
  const batched: BatchedRead<Read>[] = [];

  for (const [row, read] of reads.entries()) {
    if (read === null) continue;
    const numTokens = read.tokenIds.length;
    const numCached = read.row.numTokens;
    const start = row * numNewTokens;
    tokenIds.set(read.tokenIds, start);
    for (let i = 0; i < numTokens; i += 1) positions[start + i] = numCached + i;
    const { sinkWindow } = read.row;
    writeIndices[row] = numCached % BLOCK_SIZE;
    const rowMask = mask.subarray(row * maskLength, (row + 1) * maskLength);
    if (sinkWindow === null) unmask(rowMask, columns, { numCached, numTokens }, slidingWindow);
    else {
      unmaskSliding(rowMask, columns, { numCached, numTokens }, sinkWindow);
      for (let i = 0; i < numTokens; i += 1) places[start + i] = placeOf(numCached + i, sinkWindow);
    }
    const firstLogits = logitIndices.length;
    for (let i = numTokens - read.numLogits; i < numTokens; i += 1) logitIndices.push(start + i);
    batched.push({ read, row, firstLogits, firstSideLogits: logitIndices.length });
    const { side } = read;
    if (!side) continue;
    tokenIds.set(side.tokenIds, start + numTokens);
    for (const [i, offset] of side.offsets.entries()) {
      positions[start + numTokens + i] = numCached + offset;
      if (i >= side.firstWanted) logitIndices.push(start + numTokens + i);
    }
    unmaskSide(rowMask, columns, { numCached, numTokens }, side.visible);
  }

  if (logitIndices.length === 0) logitIndices.push(0); // the model wants one at least
  return {
    reads: batched,
    input: {
      numRows,
      numNewTokens,
      frozenCapacity,
      tailCapacity: TAIL_CAPACITY,
      tokenIds,
      positions,
      writeIndices,
      mask,
      layers,
      sinks: sinkCapacity === 0 ? null : { capacity: sinkCapacity, places, layers },
      logitIndices: Int32Array.from(logitIndices),
    },
  };
}
