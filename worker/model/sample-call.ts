import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { MASKED, type ModelInput, type ModelShape } from './runner.ts';

export interface CallSize {
  readonly numRows: number;
  /** Of each row, at most 64 where the logits of all are wanted. */
  readonly numNewTokens: number;
}

export interface SampleOptions {
  /** Positions that each row has behind it, a multiple of 64. */
  readonly numFrozen: number;
  /** Whether only a row's last token gets logits, as when a prompt is read. */
  readonly isPrompt?: boolean;
}

/** A call that costs what one of its size does while serving; what it computes means nothing. */
export function createSampleCall(
  shape: ModelShape,
  { numRows, numNewTokens }: CallSize,
  { numFrozen, isPrompt = false }: SampleOptions,
): ModelInput {
  const numTokens = numRows * numNewTokens;
  const tailCapacity = BLOCK_SIZE + numNewTokens;
  const numColumns = numFrozen + tailCapacity;
  const mask = new Float32Array(numTokens * numColumns).fill(MASKED);
  for (let token = 0; token < numTokens; token += 1) {
    const numLive = numFrozen + 1 + (token % numNewTokens);
    mask.fill(0, token * numColumns, token * numColumns + numLive);
  }
  const createBuffer = (capacity: number) =>
    new Float32Array(numRows * shape.numKvHeads * capacity * shape.headDim).fill(0.5);
  const wanted = isPrompt ? numRows : numTokens;
  return {
    numRows,
    numNewTokens,
    frozenCapacity: numFrozen,
    tailCapacity,
    tokenIds: Int32Array.from({ length: numTokens }, (_, i) => (i * 7) % shape.vocabSize),
    positions: Int32Array.from({ length: numTokens }, (_, i) => numFrozen + (i % numNewTokens)),
    writeIndices: new Int32Array(numRows),
    mask,
    sinks: null,
    layers: Array.from({ length: shape.numLayers }, () => ({
      frozenKeys: createBuffer(numFrozen),
      frozenValues: createBuffer(numFrozen),
      tailKeys: createBuffer(tailCapacity),
      tailValues: createBuffer(tailCapacity),
    })),
    logitIndices: Int32Array.from({ length: wanted }, (_, i) =>
      isPrompt ? (i + 1) * numNewTokens - 1 : i,
    ),
  };
}
