import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { MASKED, type ModelRunner, type ModelShape } from '../../worker/model/runner.ts';

export interface HostCacheOptions {
  readonly numRows: number;
  /** Positions of full blocks that fit a row, a multiple of 64. */
  readonly frozenCapacity: number;
}

interface LayerBuffers {
  frozenKeys: Float32Array;
  frozenValues: Float32Array;
  readonly tailKeys: Float32Array;
  readonly tailValues: Float32Array;
}

/** The plainest KV cache that honors the model's interface: every step copies all it needs. */
export class HostCache {
  readonly #shape: ModelShape;
  readonly #numRows: number;
  #frozenCapacity: number;
  readonly #layers: readonly LayerBuffers[];
  readonly lengths: number[]; // [numRows]

  constructor(shape: ModelShape, { numRows, frozenCapacity }: HostCacheOptions) {
    this.#shape = shape;
    this.#numRows = numRows;
    this.#frozenCapacity = frozenCapacity;
    this.lengths = Array.from({ length: numRows }, () => 0);
    const buffer = (columns: number) =>
      new Float32Array(numRows * shape.numKvHeads * columns * shape.headDim);
    this.#layers = Array.from({ length: shape.numLayers }, () => ({
      frozenKeys: buffer(frozenCapacity),
      frozenValues: buffer(frozenCapacity),
      tailKeys: buffer(BLOCK_SIZE),
      tailValues: buffer(BLOCK_SIZE),
    }));
  }

  /** Makes room for more full blocks, as a cache does whose sequences have grown. */
  grow(frozenCapacity: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const oldSize = this.#frozenCapacity * headDim;
    const newSize = frozenCapacity * headDim;
    const widen = (old: Float32Array) => {
      const wide = new Float32Array(this.#numRows * numKvHeads * newSize);
      for (let head = 0; head < this.#numRows * numKvHeads; head += 1) {
        wide.set(old.subarray(head * oldSize, (head + 1) * oldSize), head * newSize);
      }
      return wide;
    };
    for (const buffers of this.#layers) {
      buffers.frozenKeys = widen(buffers.frozenKeys);
      buffers.frozenValues = widen(buffers.frozenValues);
    }
    this.#frozenCapacity = frozenCapacity;
  }

  /** Forgets what a row has read, for another sequence to begin there. */
  clear(row: number): void {
    this.lengths[row] = 0;
  }

  get frozenCapacity(): number {
    return this.#frozenCapacity;
  }

  /**
   * Lets the model read one chunk per row, none across the end of a block, and appends them.
   *
   * @param chunks [numRows], each at least one token
   * @returns logits of every token, [numRows] of [numTokens] of [vocabSize]
   */
  async read(runner: ModelRunner, chunks: readonly (readonly number[])[]) {
    const numNewTokens = Math.max(...chunks.map((chunk) => chunk.length));
    const tailCapacity = BLOCK_SIZE + numNewTokens;
    const padded = this.#numRows * numNewTokens;
    const tokenIds = new Int32Array(padded);
    const positions = new Int32Array(padded);
    const logitIndices: number[] = [];
    for (const [row, chunk] of chunks.entries()) {
      for (const [i, tokenId] of chunk.entries()) {
        tokenIds[row * numNewTokens + i] = tokenId;
        positions[row * numNewTokens + i] = this.lengths[row]! + i;
        logitIndices.push(row * numNewTokens + i);
      }
    }
    const output = await runner.run({
      numRows: this.#numRows,
      numNewTokens,
      frozenCapacity: this.#frozenCapacity,
      tailCapacity,
      tokenIds,
      positions,
      writeIndices: Int32Array.from(this.lengths, (length) => length % BLOCK_SIZE),
      mask: this.#mask(chunks, numNewTokens),
      sinks: null,
      layers: this.#layers.map((layer) => ({
        frozenKeys: layer.frozenKeys,
        frozenValues: layer.frozenValues,
        tailKeys: this.#widen(layer.tailKeys, tailCapacity),
        tailValues: this.#widen(layer.tailValues, tailCapacity),
      })),
      logitIndices: Int32Array.from(logitIndices),
    });
    for (const [row, chunk] of chunks.entries()) {
      this.#append(row, chunk.length, numNewTokens, output);
    }
    const { vocabSize } = this.#shape;
    let next = 0;
    return chunks.map((chunk) =>
      chunk.map(() => {
        next += 1;
        return output.logits.subarray((next - 1) * vocabSize, next * vocabSize);
      }),
    );
  }

  #mask(chunks: readonly (readonly number[])[], numNewTokens: number): Float32Array {
    const numColumns = this.#frozenCapacity + BLOCK_SIZE + numNewTokens;
    const mask = new Float32Array(this.#numRows * numNewTokens * numColumns).fill(MASKED);
    const window = this.#shape.slidingWindow ?? Infinity;
    for (const [row, chunk] of chunks.entries()) {
      const length = this.lengths[row]!;
      const numFrozen = length - (length % BLOCK_SIZE);
      for (let i = 0; i < chunk.length; i += 1) {
        const start = (row * numNewTokens + i) * numColumns;
        for (let p = Math.max(0, length + i + 1 - window); p <= length + i; p += 1) {
          const column = p < numFrozen ? p : this.#frozenCapacity + p - numFrozen;
          mask[start + column] = 0;
        }
      }
    }
    return mask;
  }

  /** Copies tails of 64 columns into ones that have room for the new tokens. */
  #widen(tail: Float32Array, tailCapacity: number): Float32Array {
    const { numKvHeads, headDim } = this.#shape;
    const wide = new Float32Array(this.#numRows * numKvHeads * tailCapacity * headDim);
    for (let head = 0; head < this.#numRows * numKvHeads; head += 1) {
      const size = BLOCK_SIZE * headDim;
      wide.set(tail.subarray(head * size, (head + 1) * size), head * tailCapacity * headDim);
    }
    return wide;
  }

  #append(
    row: number,
    numTokens: number,
    numNewTokens: number,
    output: { newKeys: readonly Float32Array[]; newValues: readonly Float32Array[] },
  ): void {
    const length = this.lengths[row]!;
    for (const [layer, buffers] of this.#layers.entries()) {
      this.#copy(row, output.newKeys[layer]!, buffers.tailKeys, numTokens, numNewTokens);
      this.#copy(row, output.newValues[layer]!, buffers.tailValues, numTokens, numNewTokens);
    }
    this.lengths[row] = length + numTokens;
    if ((length % BLOCK_SIZE) + numTokens > BLOCK_SIZE) throw new Error('chunk crosses a block');
    if (this.lengths[row]! % BLOCK_SIZE === 0) this.#freeze(row);
  }

  #copy(
    row: number,
    source: Float32Array,
    tail: Float32Array,
    numTokens: number,
    numNewTokens: number,
  ): void {
    const { numKvHeads, headDim } = this.#shape;
    for (let head = row * numKvHeads; head < (row + 1) * numKvHeads; head += 1) {
      const start = head * numNewTokens * headDim;
      const at = (head * BLOCK_SIZE + (this.lengths[row]! % BLOCK_SIZE)) * headDim;
      tail.set(source.subarray(start, start + numTokens * headDim), at);
    }
  }

  #freeze(row: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const size = BLOCK_SIZE * headDim;
    const column = this.lengths[row]! - BLOCK_SIZE;
    for (const buffers of this.#layers) {
      for (let head = row * numKvHeads; head < (row + 1) * numKvHeads; head += 1) {
        const at = (head * this.#frozenCapacity + column) * headDim;
        buffers.frozenKeys.set(buffers.tailKeys.subarray(head * size, (head + 1) * size), at);
        buffers.frozenValues.set(buffers.tailValues.subarray(head * size, (head + 1) * size), at);
      }
    }
  }
}

/** Cuts a text into chunks of the given lengths, repeated, shortened where a block ends. */
export function cutIntoChunks(tokenIds: readonly number[], lengths: readonly number[]): number[][] {
  const chunks: number[][] = [];
  let start = 0;
  while (start < tokenIds.length) {
    const wanted = lengths[chunks.length % lengths.length]!;
    const end = Math.min(start + wanted, start + BLOCK_SIZE - (start % BLOCK_SIZE));
    chunks.push(tokenIds.slice(start, end));
    start = Math.min(end, tokenIds.length);
  }
  return chunks;
}
