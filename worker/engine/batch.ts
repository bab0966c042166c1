import { invariant } from '../../shared/assert.ts';
import type { CacheRow, KvCache } from '../cache/kv-cache.ts';
import { BLOCK_SIZE, TAIL_CAPACITY } from '../cache/layout.ts';
import { unmask } from '../cache/mask.ts';
import { MASKED, type ModelInput } from '../model/runner.ts';
import { planCalls } from './call-plan.ts';
import type { Chunk } from './step.ts';

/** One call of the model and the chunks it reads. */
export interface Batch {
  readonly input: ModelInput;
  readonly chunks: readonly BatchedChunk[];
}

/** A chunk in its call. */
export interface BatchedChunk {
  readonly chunk: Chunk;
  /** Its row within the call. */
  readonly row: number;
  /** Where its logits begin among the call's; as many follow as `numLogits` tells. */
  readonly firstLogits: number;
}

/** Tokens of a chunk, from its end, whose logits are wanted: those that choose a token or verify a draft. */
export function numLogits({ sequence, numTokens }: Chunk): number {
  if (sequence.options.wantsPromptLogprobs && sequence.numOutputTokens === 0) return numTokens;
  const numKnown = sequence.tokenIds.length - sequence.numComputedTokens;
  return Math.max(0, numTokens - numKnown + 1);
}

/** Lays the chunks of a step out as calls of the model, over the rows of the cache as they lie. */
export function buildBatches(
  chunks: readonly Chunk[],
  cache: KvCache,
  slidingWindow: number | null,
): Batch[] {
  const chunkByRow = new Map<CacheRow, Chunk>();
  for (const chunk of chunks) {
    invariant(chunk.sequence.row !== null, 'a scheduled sequence has a row');
    chunkByRow.set(chunk.sequence.row, chunk);
  }
  return cache.groups.flatMap(({ frozenCapacity, rows }) => {
    const chunksOfRows = rows.map((row) => chunkByRow.get(row) ?? null);
    const calls = planCalls(
      rows.map((row, i) => ({
        numTokens: chunksOfRows[i]?.numTokens ?? 0,
        tailLength: row.numTokens % BLOCK_SIZE,
      })),
    );
    return calls.map(({ start, end, numNewTokens }) =>
      buildBatch(chunksOfRows.slice(start, end), {
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

/** @param chunks [numRows], `null` for a row that sits this step out */
function buildBatch(chunks: readonly (Chunk | null)[], shape: BatchShape): Batch {
  const { frozenCapacity, numNewTokens, layers, slidingWindow } = shape;
  const numRows = chunks.length;
  const maskLength = numNewTokens * (frozenCapacity + TAIL_CAPACITY);
  const tokenIds = new Int32Array(numRows * numNewTokens);
  const positions = new Int32Array(numRows * numNewTokens);
  const writeIndices = new Int32Array(numRows);
  const mask = new Float32Array(numRows * maskLength).fill(MASKED);
  const logitIndices: number[] = [];
  const batched: BatchedChunk[] = [];

  for (const [row, chunk] of chunks.entries()) {
    if (chunk === null) continue;
    const { sequence, numTokens } = chunk;
    const numCached = sequence.numComputedTokens;
    const start = row * numNewTokens;
    tokenIds.set(sequence.pendingTokenIds(numTokens), start);
    for (let i = 0; i < numTokens; i += 1) positions[start + i] = numCached + i;
    writeIndices[row] = numCached % BLOCK_SIZE;
    const rowMask = mask.subarray(row * maskLength, (row + 1) * maskLength);
    unmask(rowMask, frozenCapacity, { numCached, numTokens }, slidingWindow);
    batched.push({ chunk, row, firstLogits: logitIndices.length });
    for (let i = numTokens - numLogits(chunk); i < numTokens; i += 1) logitIndices.push(start + i);
  }

  if (logitIndices.length === 0) logitIndices.push(0); // the model wants one at least
  return {
    chunks: batched,
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
