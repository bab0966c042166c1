import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { KvCache } from '../../worker/cache/kv-cache.ts';
import { type CacheShape, TAIL_CAPACITY } from '../../worker/cache/layout.ts';
import { NewColumns, type NewTokens } from '../../worker/cache/new-columns.ts';
import type { CacheRow } from '../../worker/cache/row.ts';

/** A token's keys and values, which say what they are: every number is one of a kind. */
export type NaiveToken = number;

/**
 * What the model gives for tokens of some rows of a call; the others are filled with other numbers.
 *
 * @param tokens of the row, at most `numNewTokens`
 */
export function newTokensOf(
  shape: CacheShape,
  tokens: readonly NaiveToken[],
  { numNewTokens, row, numRows }: { numNewTokens: number; row: number; numRows: number },
): NewTokens {
  const { numLayers, numKvHeads, headDim } = shape;
  const layers = (part: number) =>
    Array.from({ length: numLayers }, (_, layer) => {
      const numbers = new Float32Array(numRows * numKvHeads * numNewTokens * headDim).fill(-999);
      for (let head = 0; head < numKvHeads; head += 1) {
        for (const [i, token] of tokens.entries()) {
          const start = ((row * numKvHeads + head) * numNewTokens + i) * headDim;
          for (let d = 0; d < headDim; d += 1) {
            numbers[start + d] = numberOf(token, { part, layer, head, d });
          }
        }
      }
      return numbers;
    });
  const output = { newKeys: layers(0), newValues: layers(1) };
  return { columns: new NewColumns(shape, output, numNewTokens), row };
}

interface Place {
  readonly part: number;
  readonly layer: number;
  readonly head: number;
  readonly d: number;
}

function numberOf(token: NaiveToken, { part, layer, head, d }: Place): number {
  // Exact in float32 up to token 65,535.
  return token * 256 + part * 128 + layer * 32 + head * 8 + d;
}

/**
 * The tokens that a row holds, as the model sees them through `view`: frozen columns, then the
 * tail's.
 *
 * @throws {Error} when the numbers of a column are not those of one token
 */
export function tokensOfRow(cache: KvCache, shape: CacheShape, row: CacheRow): NaiveToken[] {
  const { frozenCapacity, index, numTokens } = row;
  const layers = cache.view(frozenCapacity, index, index + 1);
  const numFrozen = numTokens - (numTokens % BLOCK_SIZE);
  return Array.from({ length: numTokens }, (_, position) => {
    const isFrozen = position < numFrozen;
    const column = isFrozen ? position : position - numFrozen;
    const capacity = isFrozen ? frozenCapacity : TAIL_CAPACITY;
    const tokens = new Set<number>();
    for (const [layer, parts] of layers.entries()) {
      const keysAndValues = isFrozen
        ? [parts.frozenKeys, parts.frozenValues]
        : [parts.tailKeys, parts.tailValues];
      for (const [part, numbers] of keysAndValues.entries()) {
        for (let head = 0; head < shape.numKvHeads; head += 1) {
          for (let d = 0; d < shape.headDim; d += 1) {
            const number = numbers[(head * capacity + column) * shape.headDim + d]!;
            tokens.add((number - numberOf(0, { part, layer, head, d })) / 256);
          }
        }
      }
    }
    const [token] = tokens;
    if (tokens.size !== 1 || token === undefined) {
      throw new Error(`column ${column} of row ${index} holds parts of ${[...tokens]}`);
    }
    return token;
  });
}
