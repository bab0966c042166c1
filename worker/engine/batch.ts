import type { TokenId } from '../../shared/ids.ts';
import type { CacheRow, KvCache } from '../cache/kv-cache.ts';
import { BLOCK_SIZE, TAIL_CAPACITY } from '../cache/layout.ts';
import { unmask } from '../cache/mask.ts';
import { MASKED, type ModelInput } from '../model/runner.ts';
import { planCalls } from './call-plan.ts';

/** Tokens that a model reads behind those of a row of its cache. */
export interface RowRead {
  readonly row: CacheRow;
  readonly tokenIds: readonly TokenId[];
  /** Of the last so many of them, logits are wanted. */
  readonly numLogits: number;
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
        numTokens: readsOfRows[i]?.tokenIds.length ?? 0,
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

interface BatchShape {
  readonly frozenCapacity: number;
  readonly numNewTokens: number;
  readonly layers: ModelInput['layers'];
  readonly slidingWindow: number | null;
}

/** @param reads [numRows], `null` for a row that sits this step out */
function buildBatch<Read extends RowRead>(
  reads: readonly (Read | null)[],
  { frozenCapacity, numNewTokens, layers, slidingWindow }: BatchShape,
): Batch<Read> {
  const numRows = reads.length;
  const maskLength = numNewTokens * (frozenCapacity + TAIL_CAPACITY);
  const tokenIds = new Int32Array(numRows * numNewTokens);
  const positions = new Int32Array(numRows * numNewTokens);
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
    writeIndices[row] = numCached % BLOCK_SIZE;
    const rowMask = mask.subarray(row * maskLength, (row + 1) * maskLength);
    unmask(rowMask, frozenCapacity, { numCached, numTokens }, slidingWindow);
    batched.push({ read, row, firstLogits: logitIndices.length });
    for (let i = numTokens - read.numLogits; i < numTokens; i += 1) logitIndices.push(start + i);
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
      logitIndices: Int32Array.from(logitIndices),
    },
  };
}
