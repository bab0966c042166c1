import { invariant } from '../../shared/assert.ts';
import { SINK_CAPACITY } from './columns.ts';
import { BLOCK_SIZE, type CacheShape, TAIL_CAPACITY } from './layout.ts';

/** The keys and values of one layer. Buffers are never replaced, so views of them stay good. */
export interface BankLayer {
  readonly frozenKeys: Float32Array; // [maxRows, numKvHeads, frozenCapacity, headDim]
  readonly frozenValues: Float32Array;
  readonly tailKeys: Float32Array; // [maxRows, numKvHeads, TAIL_CAPACITY, headDim]
  readonly tailValues: Float32Array;
  /** Of rows whose window slides, their first block. */
  readonly sinkKeys: Float32Array; // [maxRows, numKvHeads, SINK_CAPACITY, headDim]
  readonly sinkValues: Float32Array;
}

/** Columns of a row that fill from the first on. */
interface Filling {
  readonly row: number;
  readonly capacity: number;
  /** Columns that are full. */
  readonly length: number;
}

/** Where the new keys and values of one row stand in what the model gave. */
export interface NewTokens {
  /** [numLayers] of [numRows, numKvHeads, numNewTokens, headDim] */
  readonly newKeys: readonly Float32Array[];
  readonly newValues: readonly Float32Array[];
  readonly numNewTokens: number;
  /** The row within them. */
  readonly row: number;
}

/** One block of one row, taken out: [numLayers] of [numKvHeads, BLOCK_SIZE, headDim]. */
export interface FrozenBlock {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

/** Whether the first `count` new tokens of a row are numbers throughout. */
export function areFinite(
  { newKeys, newValues, numNewTokens, row }: NewTokens,
  count: number,
  { numKvHeads, headDim }: CacheShape,
): boolean {
  // Sums of zeros, unless one comes of a NaN or an infinity; two, since each waits for its last addition.
  let even = 0;
  let odd = 0;
  for (const part of [...newKeys, ...newValues]) {
    for (let head = 0; head < numKvHeads; head += 1) {
      const start = (row * numKvHeads + head) * numNewTokens * headDim;
      const end = start + count * headDim;
      let i = start;
      for (; i + 2 <= end; i += 2) {
        even += part[i]! * 0;
        odd += part[i + 1]! * 0;
      }
      if (i < end) even += part[i]! * 0;
    }
  }
  return even + odd === 0;
}

/**
 * Rows of equal frozen capacity, side by side, so that any range of them is one view for the model. Knows
 * where numbers lie and nothing of whose they are.
 *
 * The memory is reserved whole; the system backs a page of it when a row first writes there.
 */
export class Bank {
  readonly frozenCapacity: number;
  readonly layers: readonly BankLayer[];
  readonly #shape: CacheShape;

  constructor(shape: CacheShape, maxRows: number, frozenCapacity: number) {
    const { numLayers, numKvHeads, headDim } = shape;
    this.#shape = shape;
    this.frozenCapacity = frozenCapacity;
    const columns = (count: number) => new Float32Array(maxRows * numKvHeads * count * headDim);
    this.layers = Array.from({ length: numLayers }, () => ({
      frozenKeys: columns(frozenCapacity),
      frozenValues: columns(frozenCapacity),
      tailKeys: columns(TAIL_CAPACITY),
      tailValues: columns(TAIL_CAPACITY),
      sinkKeys: columns(SINK_CAPACITY),
      sinkValues: columns(SINK_CAPACITY),
    }));
  }

  /** Copies the first `count` new tokens of a row into its tail, behind the `tailLength` that are there. */
  appendToTail(row: number, tailLength: number, count: number, from: NewTokens): void {
    invariant(tailLength + count <= BLOCK_SIZE, 'a chunk crosses the end of its block');
    const tail = { row, capacity: TAIL_CAPACITY, length: tailLength };
    for (const [i, layer] of this.layers.entries()) {
      this.#append(layer.tailKeys, from.newKeys[i]!, tail, count, from);
      this.#append(layer.tailValues, from.newValues[i]!, tail, count, from);
    }
  }

  /** Copies the first `count` new tokens of a row beside its sinks, as it does into its tail. */
  appendToSinks(row: number, length: number, count: number, from: NewTokens): void {
    invariant(length + count <= SINK_CAPACITY, 'more sinks than a block');
    const sinks = { row, capacity: SINK_CAPACITY, length };
    for (const [i, layer] of this.layers.entries()) {
      this.#append(layer.sinkKeys, from.newKeys[i]!, sinks, count, from);
      this.#append(layer.sinkValues, from.newValues[i]!, sinks, count, from);
    }
  }

  #append(
    filling: Float32Array,
    fresh: Float32Array,
    { row, capacity, length: numFull }: Filling,
    count: number,
    { row: freshRow, numNewTokens }: NewTokens,
  ): void {
    const { numKvHeads, headDim } = this.#shape;
    const length = count * headDim;
    for (let head = 0; head < numKvHeads; head += 1) {
      const source = (freshRow * numKvHeads + head) * numNewTokens * headDim;
      const target = ((row * numKvHeads + head) * capacity + numFull) * headDim;
      for (let i = 0; i < length; i += 1) filling[target + i] = fresh[source + i]!;
    }
  }

  /** Copies a full tail to the frozen block `slot` of its row. */
  freezeTail(row: number, slot: number): void {
    for (const layer of this.layers) {
      this.#freeze(layer.frozenKeys, layer.tailKeys, row, slot);
      this.#freeze(layer.frozenValues, layer.tailValues, row, slot);
    }
  }

  #freeze(frozen: Float32Array, tail: Float32Array, row: number, slot: number): void {
    const { numKvHeads, headDim } = this.#shape;
    for (let head = 0; head < numKvHeads; head += 1) {
      const source = (row * numKvHeads + head) * TAIL_CAPACITY * headDim;
      frozen.set(
        tail.subarray(source, source + BLOCK_SIZE * headDim),
        this.#frozenOffset(row, head, slot),
      );
    }
  }

  #frozenOffset(row: number, head: number, slot: number): number {
    const { numKvHeads, headDim } = this.#shape;
    const column = (row * numKvHeads + head) * this.frozenCapacity + slot * BLOCK_SIZE;
    return column * headDim;
  }

  readBlock(row: number, slot: number): FrozenBlock {
    const read = (frozen: Float32Array) => this.#readBlock(frozen, row, slot);
    return {
      keys: this.layers.map(({ frozenKeys }) => read(frozenKeys)),
      values: this.layers.map(({ frozenValues }) => read(frozenValues)),
    };
  }

  #readBlock(frozen: Float32Array, row: number, slot: number): Float32Array {
    const { numKvHeads, headDim } = this.#shape;
    const block = new Float32Array(numKvHeads * BLOCK_SIZE * headDim);
    for (let head = 0; head < numKvHeads; head += 1) {
      const offset = this.#frozenOffset(row, head, slot);
      const columns = frozen.subarray(offset, offset + BLOCK_SIZE * headDim);
      block.set(columns, head * BLOCK_SIZE * headDim);
    }
    return block;
  }

  writeBlock(row: number, slot: number, block: FrozenBlock): void {
    for (const [i, layer] of this.layers.entries()) {
      this.#writeBlock(layer.frozenKeys, block.keys[i]!, row, slot);
      this.#writeBlock(layer.frozenValues, block.values[i]!, row, slot);
    }
  }

  #writeBlock(frozen: Float32Array, block: Float32Array, row: number, slot: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const length = BLOCK_SIZE * headDim;
    for (let head = 0; head < numKvHeads; head += 1) {
      const columns = block.subarray(head * length, (head + 1) * length);
      frozen.set(columns, this.#frozenOffset(row, head, slot));
    }
  }

  /** Makes a block the one that a row's sinks are in. */
  writeSinks(row: number, block: FrozenBlock): void {
    for (const [i, layer] of this.layers.entries()) {
      const start = row * block.keys[i]!.length; // as many columns as a block has
      layer.sinkKeys.set(block.keys[i]!, start);
      layer.sinkValues.set(block.values[i]!, start);
    }
  }

  /** Copies the sinks of a row of `source` here. */
  copySinks(row: number, source: Bank, sourceRow: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const length = numKvHeads * SINK_CAPACITY * headDim;
    const copy = (target: Float32Array, from: Float32Array) => {
      target.set(from.subarray(sourceRow * length, (sourceRow + 1) * length), row * length);
    };
    for (const [i, layer] of this.layers.entries()) {
      copy(layer.sinkKeys, source.layers[i]!.sinkKeys);
      copy(layer.sinkValues, source.layers[i]!.sinkValues);
    }
  }

  /** Copies a row of `source` here, its first `numSlots` frozen blocks and its whole tail. */
  copyRow(row: number, source: Bank, sourceRow: number, numSlots: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const tailLength = numKvHeads * TAIL_CAPACITY * headDim;
    const copyTail = (target: Float32Array, from: Float32Array) => {
      const start = sourceRow * tailLength;
      target.set(from.subarray(start, start + tailLength), row * tailLength);
    };
    const copyFrozen = (target: Float32Array, from: Float32Array) => {
      for (let head = 0; head < numKvHeads; head += 1) {
        const start = source.#frozenOffset(sourceRow, head, 0);
        const columns = from.subarray(start, start + numSlots * BLOCK_SIZE * headDim);
        target.set(columns, this.#frozenOffset(row, head, 0));
      }
    };
    for (const [i, layer] of this.layers.entries()) {
      const from = source.layers[i]!;
      copyTail(layer.tailKeys, from.tailKeys);
      copyTail(layer.tailValues, from.tailValues);
      copyFrozen(layer.frozenKeys, from.frozenKeys);
      copyFrozen(layer.frozenValues, from.frozenValues);
    }
  }
}
