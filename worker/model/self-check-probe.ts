import { BLOCK_SIZE } from '../../shared/block-size.ts';
import {
  type LayerCache,
  MASKED,
  type ModelInput,
  type ModelRunner,
  type ModelShape,
  type SinkInput,
} from './runner.ts';

/** Positions of the made-up past. */
export const NUM_FROZEN = 576; // products this long are summed in several parts
const NUM_SINKS = 4;

/** A way for the tokens to reach the model. */
export interface ProbeReading {
  readonly numRows: number;
  /** The row that is looked at; the others read other tokens. */
  readonly row: number;
  readonly frozenCapacity: number;
  /** Of the chunks in which the tokens are read. */
  readonly lengths: readonly number[];
  readonly hasSinks: boolean;
}

export interface ProbeOptions {
  /** Tokens whose logits are wanted. */
  readonly numTokens: number;
  /** Whether they look at sinks, in calls that have them. */
  readonly looksAtSinks: boolean;
}

interface Chunk extends Omit<ProbeReading, 'lengths'> {
  /** Tokens read before this one. */
  readonly numRead: number;
  readonly length: number;
}

/** What earlier chunks of a reading gave. */
interface Past {
  readonly frozen: Float32Array;
  readonly lengths: number[];
  readonly newKeys: (readonly Float32Array[])[];
  readonly newValues: (readonly Float32Array[])[];
}

/** Lets the model read the same few tokens after a made-up past, cut and batched in any way. */
export class ProbeReader {
  readonly #runner: ModelRunner;
  readonly #options: ProbeOptions;

  constructor(runner: ModelRunner, options: ProbeOptions) {
    this.#runner = runner;
    this.#options = options;
  }

  /** @returns [numTokens, vocabSize] */
  async read(reading: ProbeReading): Promise<Float32Array<ArrayBuffer>> {
    const { vocabSize } = this.#runner.shape;
    const { numTokens } = this.#options;
    const logits = new Float32Array(numTokens * vocabSize);
    const frozen = createFrozen(this.#runner.shape, reading);
    const past: Past = { frozen, lengths: [], newKeys: [], newValues: [] };
    let numRead = 0;
    for (const length of reading.lengths) {
      const chunk = { ...reading, numRead, length };
      const output = await this.#runner.run(this.#toInput(chunk, past));
      logits.set(output.logits.subarray(0, (numTokens - numRead) * vocabSize), numRead * vocabSize);
      past.newKeys.push(output.newKeys);
      past.newValues.push(output.newValues);
      past.lengths.push(length);
      numRead += length;
    }
    return logits;
  }

  #toInput(chunk: Chunk, past: Past): ModelInput {
    const { numRows, row, frozenCapacity, numRead, length, hasSinks } = chunk;
    const { shape } = this.#runner;
    const tailCapacity = BLOCK_SIZE + length;
    const positions = Int32Array.from(
      { length: numRows * length },
      (_, i) => (numRead + (i % length)) % shape.maxSequenceTokens,
    );
    const numWanted = Math.min(length, this.#options.numTokens - numRead);
    return {
      numRows,
      numNewTokens: length,
      frozenCapacity,
      tailCapacity,
      tokenIds: positions.map((position, i) => {
        const isNeighbor = Math.floor(i / length) !== row;
        return (position * 7 + (isNeighbor ? i + 1 : 0)) % shape.vocabSize;
      }),
      positions,
      writeIndices: new Int32Array(numRows).fill(numRead),
      mask: this.#createMask(chunk),
      layers: createLayers(shape, chunk, past),
      sinks: hasSinks ? createSinks(shape, chunk) : null,
      logitIndices: Int32Array.from({ length: numWanted }, (_, i) => row * length + i),
    };
  }

  /** Every row looks at all frozen columns that are live, and at the tail up to itself. */
  #createMask({ numRows, frozenCapacity, numRead, length, hasSinks }: Chunk): Float32Array {
    const sinkCapacity = hasSinks ? BLOCK_SIZE : 0;
    const numColumns = sinkCapacity + frozenCapacity + BLOCK_SIZE + length;
    const mask = new Float32Array(numRows * length * numColumns).fill(MASKED);
    for (let token = 0; token < numRows * length; token += 1) {
      const start = token * numColumns;
      const frozen = start + sinkCapacity;
      const tail = frozen + frozenCapacity;
      if (hasSinks && this.#options.looksAtSinks) mask.fill(0, start, start + NUM_SINKS);
      mask.fill(0, frozen, frozen + NUM_FROZEN);
      mask.fill(0, tail, tail + numRead + (token % length) + 1);
    }
    return mask;
  }
}

function createSinks(shape: ModelShape, { numRows, numRead, length }: Chunk): SinkInput {
  const columns = fillRows(shape, { numRows, capacity: BLOCK_SIZE, numLive: NUM_SINKS });
  return {
    capacity: BLOCK_SIZE,
    places: Int32Array.from(
      { length: numRows * length },
      (_, i) => NUM_SINKS + numRead + (i % length),
    ),
    layers: Array.from({ length: shape.numLayers }, () => ({
      sinkKeys: columns,
      sinkValues: columns,
    })),
  };
}

/** The frozen part is shared by all layers, as keys and as values: what they are is no matter. */
function createLayers(
  shape: ModelShape,
  chunk: Chunk,
  { frozen, lengths, newKeys, newValues }: Past,
): LayerCache[] {
  return Array.from({ length: shape.numLayers }, (_, layer) => {
    const tailOf = (outputs: Past['newKeys']) => {
      const parts = outputs.map((ofLayers) => ofLayers[layer]!);
      return createTail(shape, chunk, { lengths, parts });
    };
    return {
      frozenKeys: frozen,
      frozenValues: frozen,
      tailKeys: tailOf(newKeys),
      tailValues: tailOf(newValues),
    };
  });
}

function createFrozen(shape: ModelShape, { numRows, frozenCapacity }: ProbeReading): Float32Array {
  return fillRows(shape, { numRows, capacity: frozenCapacity, numLive: NUM_FROZEN });
}

/** [numRows, numKvHeads, capacity, headDim]: numbers that each row of a reading has alike. */
function fillRows(
  { numKvHeads, headDim }: ModelShape,
  { numRows, capacity, numLive }: { numRows: number; capacity: number; numLive: number },
): Float32Array {
  const size = capacity * headDim;
  const columns = new Float32Array(numRows * numKvHeads * size);
  for (let i = 0; i < columns.length; i += 1) {
    const inHead = i % size;
    const head = Math.floor(i / size) % numKvHeads;
    if (inHead < numLive * headDim) columns[i] = Math.sin(inHead * 1.7 + head * 31);
  }
  return columns;
}

/**
 * [numRows, numKvHeads, BLOCK_SIZE + length, headDim]: what earlier chunks gave, one after another.
 */
function createTail(
  { numKvHeads, headDim }: ModelShape,
  { numRows, length }: Chunk,
  { lengths, parts }: Pick<Past, 'lengths'> & { readonly parts: readonly Float32Array[] },
): Float32Array {
  const size = (BLOCK_SIZE + length) * headDim;
  const tail = new Float32Array(numRows * numKvHeads * size);
  for (let head = 0; head < numRows * numKvHeads; head += 1) {
    let at = head * size;
    for (const [i, part] of parts.entries()) {
      const partSize = lengths[i]! * headDim;
      tail.set(part.subarray(head * partSize, (head + 1) * partSize), at);
      at += partSize;
    }
  }
  return tail;
}
