import { ModelError } from './model-error.ts';
import type { ModelShape } from './runner.ts';
import { type LayerCache, MASKED, type ModelInput, type ModelRunner } from './runner.ts';

const NUM_FROZEN = 576; // products this long are summed in several parts
const BLOCK_SIZE = 64;
const NUM_TOKENS = 6;

/** How the tokens reach the model: in which row of how many, and in chunks of which lengths. */
interface Reading {
  readonly numRows: number;
  readonly row: number;
  readonly frozenCapacity: number;
  readonly lengths: readonly number[]; // sum: NUM_TOKENS
}

const READINGS: readonly Reading[] = [
  { numRows: 1, row: 0, frozenCapacity: 576, lengths: [1, 1, 1, 1, 1, 1] },
  { numRows: 1, row: 0, frozenCapacity: 1024, lengths: [6] },
  { numRows: 1, row: 0, frozenCapacity: 576, lengths: [2, 3, 1] },
  { numRows: 3, row: 1, frozenCapacity: 576, lengths: [1, 1, 1, 1, 1, 1] },
  { numRows: 3, row: 2, frozenCapacity: 1024, lengths: [4, 2] },
];

/**
 * Reads a few tokens after a made-up past in several ways and compares the logits bit for bit:
 * the promise rests on the processor's kernels, and another processor may choose others.
 *
 * @throws {ModelError} when a logit depends on the batch or on how the tokens were cut
 */
export async function checkInvariance(runner: ModelRunner): Promise<void> {
  let expected: Uint32Array | null = null;
  for (const reading of READINGS) {
    const bits = new Uint32Array((await read(runner, reading)).buffer);
    expected ??= bits;
    let numDiffering = 0;
    for (let i = 0; i < bits.length; i += 1) numDiffering += Number(bits[i] !== expected[i]);
    if (numDiffering === 0) continue;
    throw new ModelError(
      `on this processor ${numDiffering} of ${bits.length} logits depend on the batch ` +
        `(${reading.numRows} rows, chunks of ${reading.lengths}), so that equal requests would ` +
        'not give equal bytes; try NUM_THREADS=1 or another WEIGHT_FORMAT',
    );
  }
}

/** @returns [NUM_TOKENS, vocabSize] */
async function read(runner: ModelRunner, reading: Reading): Promise<Float32Array<ArrayBuffer>> {
  const { vocabSize } = runner.shape;
  const logits = new Float32Array(NUM_TOKENS * vocabSize);
  const frozen = createFrozen(runner.shape, reading);
  const newKeys: (readonly Float32Array[])[] = [];
  const newValues: (readonly Float32Array[])[] = [];
  const lengths: number[] = [];
  let numRead = 0;
  for (const length of reading.lengths) {
    const step = { ...reading, numRead, length };
    const past = createPast(runner.shape, step, { frozen, lengths, newKeys, newValues });
    const output = await runner.run(createInput(runner.shape, step, past));
    logits.set(output.logits, numRead * vocabSize);
    newKeys.push(output.newKeys);
    newValues.push(output.newValues);
    lengths.push(length);
    numRead += length;
  }
  return logits;
}

interface Step extends Omit<Reading, 'lengths'> {
  /** Tokens read in steps before this one. */
  readonly numRead: number;
  readonly length: number;
}

/** Every row looks at all frozen columns that are live, and at the tail up to itself. */
function createInput(
  { vocabSize }: ModelShape,
  { numRows, row, frozenCapacity, numRead, length }: Step,
  layers: readonly LayerCache[],
): ModelInput {
  const tailCapacity = BLOCK_SIZE + length;
  const numColumns = frozenCapacity + tailCapacity;
  const mask = new Float32Array(numRows * length * numColumns).fill(MASKED);
  for (let token = 0; token < numRows * length; token += 1) {
    const start = token * numColumns;
    const tail = start + frozenCapacity;
    mask.fill(0, start, start + NUM_FROZEN);
    mask.fill(0, tail, tail + numRead + (token % length) + 1);
  }
  const positions = Int32Array.from({ length: numRows * length }, (_, i) => numRead + (i % length));
  return {
    numRows,
    numNewTokens: length,
    frozenCapacity,
    tailCapacity,
    tokenIds: positions.map((position, i) => {
      const isNeighbor = Math.floor(i / length) !== row;
      return (position * 7 + (isNeighbor ? i + 1 : 0)) % vocabSize;
    }),
    positions,
    writeIndices: new Int32Array(numRows).fill(numRead),
    mask,
    layers,
    sinks: null,
    logitIndices: Int32Array.from({ length }, (_, i) => row * length + i),
  };
}

interface Outputs {
  readonly lengths: readonly number[];
  readonly newKeys: readonly (readonly Float32Array[])[];
  readonly newValues: readonly (readonly Float32Array[])[];
}

/** @param frozen shared by all layers, as keys and as values: what they are does not matter here */
function createPast(
  shape: ModelShape,
  step: Step,
  { frozen, lengths, newKeys, newValues }: Outputs & { readonly frozen: Float32Array },
): LayerCache[] {
  return Array.from({ length: shape.numLayers }, (_, layer) => {
    const tailOf = (outputs: Outputs['newKeys']) => {
      const parts = outputs.map((ofLayers) => ofLayers[layer]!);
      return createTail(shape, step, { lengths, parts });
    };
    return {
      frozenKeys: frozen,
      frozenValues: frozen,
      tailKeys: tailOf(newKeys),
      tailValues: tailOf(newValues),
    };
  });
}

/** [numRows, numKvHeads, frozenCapacity, headDim]: numbers that each row of a reading has alike. */
function createFrozen(
  { numKvHeads, headDim }: ModelShape,
  { numRows, frozenCapacity }: Reading,
): Float32Array {
  const size = frozenCapacity * headDim;
  const frozen = new Float32Array(numRows * numKvHeads * size);
  for (let i = 0; i < frozen.length; i += 1) {
    const inHead = i % size;
    const head = Math.floor(i / size) % numKvHeads;
    if (inHead < NUM_FROZEN * headDim) frozen[i] = Math.sin(inHead * 1.7 + head * 31);
  }
  return frozen;
}

/**
 * [numRows, numKvHeads, BLOCK_SIZE + length, headDim]: what earlier steps gave, one after another.
 */
function createTail(
  { numKvHeads, headDim }: ModelShape,
  { numRows, length }: Step,
  { lengths, parts }: Pick<Outputs, 'lengths'> & { readonly parts: readonly Float32Array[] },
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
