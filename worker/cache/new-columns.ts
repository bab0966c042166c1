import type { CacheShape } from './layout.ts';

/** Float32 numbers as they are copied, two at a time where they come in pairs. */
export type Moves = Float32Array | Float64Array;

/**
 * The same memory, to be copied in half as many moves where keys and values have an even width. No
 * bit is at risk: a move may change the bits of a NaN only, and two finite numbers together are
 * never one of 64 bits.
 */
export function movesOf(floats: Float32Array, { headDim }: CacheShape): Moves {
  if (headDim % 2 > 0) return floats;
  return new Float64Array(floats.buffer, floats.byteOffset, floats.length / 2);
}

interface KeysAndValues {
  /** [numLayers] of [numRows, numKvHeads, numNewTokens, headDim] */
  readonly newKeys: readonly Float32Array[];
  readonly newValues: readonly Float32Array[];
}

/** The keys and values that one call of the model gave, of all its rows. */
export class NewColumns {
  readonly numNewTokens: number;
  readonly keys: readonly Moves[]; // [numLayers]
  readonly values: readonly Moves[];
  readonly #shape: CacheShape;
  readonly #floats: readonly Float32Array[];

  constructor(shape: CacheShape, { newKeys, newValues }: KeysAndValues, numNewTokens: number) {
    this.numNewTokens = numNewTokens;
    this.keys = newKeys.map((floats) => movesOf(floats, shape));
    this.values = newValues.map((floats) => movesOf(floats, shape));
    this.#shape = shape;
    this.#floats = [...newKeys, ...newValues];
  }

  /** Whether the first `count` new tokens of a row are numbers throughout. */
  areFinite(row: number, count: number): boolean {
    const { numKvHeads, headDim } = this.#shape;
    const rowLength = numKvHeads * this.numNewTokens * headDim;
    const isWhole = count === this.numNewTokens;
    const [numRuns, runLength] = isWhole ? [1, rowLength] : [numKvHeads, count * headDim];
    const stride = rowLength / numRuns;
    // Sums of zeros, unless one comes of a NaN or an infinity; two, since each waits for its last
    // addition.
    let even = 0;
    let odd = 0;
    for (const floats of this.#floats) {
      for (let run = 0; run < numRuns; run += 1) {
        const start = row * rowLength + run * stride;
        const end = start + runLength;
        let i = start;
        for (; i + 2 <= end; i += 2) {
          even += floats[i]! * 0;
          odd += floats[i + 1]! * 0;
        }
        if (i < end) even += floats[i]! * 0;
      }
    }
    return even + odd === 0;
  }
}

/** Where the new keys and values of one row are. */
export interface NewTokens {
  readonly columns: NewColumns;
  /** The row within the call. */
  readonly row: number;
}
