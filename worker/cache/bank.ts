import { invariant } from '../../shared/assert.ts';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { type CacheShape, rowBytes, SINK_CAPACITY, TAIL_CAPACITY } from './layout.ts';
import { type Moves, movesOf, type NewTokens } from './new-columns.ts';

/** The keys and values of one layer. */
export interface BankLayer {
  readonly frozenKeys: Float32Array; // [numRows, numKvHeads, frozenCapacity, headDim]
  readonly frozenValues: Float32Array;
  readonly tailKeys: Float32Array; // [numRows, numKvHeads, TAIL_CAPACITY, headDim]
  readonly tailValues: Float32Array;
  /** Of rows whose window slides, their first block. */
  readonly sinkKeys: Float32Array; // [numRows, numKvHeads, SINK_CAPACITY, headDim]
  readonly sinkValues: Float32Array;
}

/** Keys and values of one layer that fill from the first column on, as they are copied. */
interface FillingLayer {
  readonly keys: Moves;
  readonly values: Moves;
}

/** Where copying begins. */
interface Place {
  readonly row: number;
  /** Columns that each head of the row has. */
  readonly capacity: number;
  readonly column: number;
}

/** One block of one row, taken out: [numLayers] of [numKvHeads, BLOCK_SIZE, headDim]. */
export interface FrozenBlock {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

/** Views that are kept: those of the calls of a few steps. */
const MAX_VIEWS = 32;

/**
 * Rows of equal frozen capacity, side by side, so that any range of them is one view for the model.
 * Knows where numbers lie and nothing of whose they are.
 */
export class Bank {
  readonly numRows: number;
  readonly frozenCapacity: number;
  readonly layers: readonly BankLayer[];
  readonly #shape: CacheShape;
  readonly #tails: readonly FillingLayer[]; // [numLayers]
  readonly #sinks: readonly FillingLayer[];
  readonly #views = new Map<string, readonly BankLayer[]>();

  constructor(shape: CacheShape, numRows: number, frozenCapacity: number) {
    const { numLayers, numKvHeads, headDim } = shape;
    this.#shape = shape;
    this.numRows = numRows;
    this.frozenCapacity = frozenCapacity;
    const columns = (count: number) => new Float32Array(numRows * numKvHeads * count * headDim);
    this.layers = Array.from({ length: numLayers }, () => ({
      frozenKeys: columns(frozenCapacity),
      frozenValues: columns(frozenCapacity),
      tailKeys: columns(TAIL_CAPACITY),
      tailValues: columns(TAIL_CAPACITY),
      sinkKeys: columns(SINK_CAPACITY),
      sinkValues: columns(SINK_CAPACITY),
    }));
    const filling = (keys: Float32Array, values: Float32Array) => ({
      keys: movesOf(keys, shape),
      values: movesOf(values, shape),
    });
    this.#tails = this.layers.map((layer) => filling(layer.tailKeys, layer.tailValues));
    this.#sinks = this.layers.map((layer) => filling(layer.sinkKeys, layer.sinkValues));
  }

  get numBytes(): number {
    return this.numRows * rowBytes(this.#shape, this.frozenCapacity);
  }

  /**
   * What the model reads of rows `start` to `end`. The same range gives the same views, while few
   * ranges are asked for.
   */
  view(start: number, end: number): readonly BankLayer[] {
    const key = `${start} ${end}`;
    const known = this.#views.get(key);
    if (known !== undefined) return known;

    const range = (part: Float32Array) => {
      const length = part.length / this.numRows;
      return part.subarray(start * length, end * length);
    };
    const layers = this.layers.map((layer) => ({
      frozenKeys: range(layer.frozenKeys),
      frozenValues: range(layer.frozenValues),
      tailKeys: range(layer.tailKeys),
      tailValues: range(layer.tailValues),
      sinkKeys: range(layer.sinkKeys),
      sinkValues: range(layer.sinkValues),
    }));
    if (this.#views.size >= MAX_VIEWS) this.#views.clear();
    this.#views.set(key, layers);
    return layers;
  }

  /** Gives the memory back at once; nobody may look at it any more. */
  free(): void {
    for (const layer of this.layers) {
      for (const part of Object.values(layer)) part.buffer.transfer(0);
    }
  }

  /**
   * Copies the first `count` new tokens of a row into its tail, behind the `tailLength` that are
   * there.
   */
  appendToTail(row: number, tailLength: number, count: number, from: NewTokens): void {
    invariant(tailLength + count <= BLOCK_SIZE, 'a chunk crosses the end of its block');
    const tail = { row, capacity: TAIL_CAPACITY, column: tailLength };
    this.#append(this.#tails, tail, count, from);
  }

  /** Copies the first `count` new tokens of a row beside its sinks, as it does into its tail. */
  appendToSinks(row: number, length: number, count: number, from: NewTokens): void {
    invariant(length + count <= SINK_CAPACITY, 'more sinks than a block');
    const sinks = { row, capacity: SINK_CAPACITY, column: length };
    this.#append(this.#sinks, sinks, count, from);
  }

  #append(
    layers: readonly FillingLayer[],
    place: Place,
    count: number,
    { columns, row }: NewTokens,
  ): void {
    const fresh = { row, capacity: columns.numNewTokens, column: 0 };
    for (let i = 0; i < layers.length; i += 1) {
      const { keys, values } = layers[i]!;
      this.#copyColumns(keys, place, columns.keys[i]!, fresh, count);
      this.#copyColumns(values, place, columns.values[i]!, fresh, count);
    }
  }

  /** Copies `count` columns of each head. */
  #copyColumns(to: Moves, target: Place, from: Moves, source: Place, count: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const width = (headDim * Float32Array.BYTES_PER_ELEMENT) / to.BYTES_PER_ELEMENT;
    const startOf = ({ row, capacity, column }: Place, head: number) =>
      ((row * numKvHeads + head) * capacity + column) * width;
    for (let head = 0; head < numKvHeads; head += 1) {
      const start = startOf(target, head);
      const sourceStart = startOf(source, head);
      for (let i = 0; i < count * width; i += 1) to[start + i] = from[sourceStart + i]!;
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

  /** Makes the first `count` columns of a block those of a row's tail. */
  writeTail(row: number, block: FrozenBlock, count: number): void {
    const { numKvHeads, headDim } = this.#shape;
    const write = (tail: Float32Array, columns: Float32Array) => {
      for (let head = 0; head < numKvHeads; head += 1) {
        const start = head * BLOCK_SIZE * headDim;
        const at = (row * numKvHeads + head) * TAIL_CAPACITY * headDim;
        tail.set(columns.subarray(start, start + count * headDim), at);
      }
    };
    for (const [i, layer] of this.layers.entries()) {
      write(layer.tailKeys, block.keys[i]!);
      write(layer.tailValues, block.values[i]!);
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
