/**
 * Tensors of one layer of the KV cache, as the model reads them in a step. Never written by the
 * model.
 */
export interface LayerCache {
  /** [numRows, numKvHeads, frozenCapacity, headDim] */
  readonly frozenKeys: Float32Array;
  readonly frozenValues: Float32Array;
  /** [numRows, numKvHeads, tailCapacity, headDim] */
  readonly tailKeys: Float32Array;
  readonly tailValues: Float32Array;
}

/**
 * First tokens of each row that are looked at from a place, and not from a position, by those that
 * see them.
 */
export interface SinkInput {
  /** Columns for them, a multiple of 64. */
  readonly capacity: number;
  /** From where each new token looks. */
  readonly places: Int32Array; // [numRows, numNewTokens]
  readonly layers: readonly SinkCache[]; // [numLayers]
}

/** The sinks of one layer, with the rotation of their own positions. */
export interface SinkCache {
  readonly sinkKeys: Float32Array; // [numRows, numKvHeads, capacity, headDim]
  readonly sinkValues: Float32Array;
}

/**
 * One call of the model: `numRows` rows of `numNewTokens` tokens each, ragged rows padded at the
 * end.
 */
export interface ModelInput {
  readonly numRows: number;
  readonly numNewTokens: number;
  readonly frozenCapacity: number;
  readonly tailCapacity: number;
  readonly tokenIds: Int32Array; // [numRows, numNewTokens]
  readonly positions: Int32Array; // [numRows, numNewTokens]
  /** Where in the tail each row's first new token goes. */
  readonly writeIndices: Int32Array; // [numRows]
  /** What is added to the scores: 0 where a token may look, MASKED elsewhere. */
  /** [numRows, numNewTokens, numColumns]: of sinks, if any, frozen ones, the tail's */
  readonly mask: Float32Array;
  readonly layers: readonly LayerCache[]; // [numLayers]
  /** `null` where no token looks at sinks, which only a model that can slide may. */
  readonly sinks: SinkInput | null;
  /** Tokens whose logits are wanted, as flat indices into [numRows, numNewTokens], at least one. */
  readonly logitIndices: Int32Array; // [numLogits]
}

export interface ModelOutput {
  readonly logits: Float32Array; // [numLogits, vocabSize]
  /** [numLayers] of [numRows, numKvHeads, numNewTokens, headDim] */
  readonly newKeys: readonly Float32Array[];
  readonly newValues: readonly Float32Array[];
}

/**
 * Frees an output that nobody will read again. Left to the garbage collector, outputs of large
 * steps make it go through the whole heap several times a second.
 */
export function freeOutput({ logits, newKeys, newValues }: ModelOutput): void {
  for (const { buffer } of [logits, ...newKeys, ...newValues]) {
    if (buffer instanceof ArrayBuffer) buffer.transfer(0); // detaches it
  }
}

/** What the rest of the worker must know of a model. */
export interface ModelShape {
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  /** Positions the model can tell apart, after rope_scaling. */
  readonly maxSequenceTokens: number;
  /** Tokens a position may look back over, itself included; `null` for all. */
  readonly slidingWindow: number | null;
  /** Whether tokens may look at sinks, so that a text can go on beyond the context. */
  readonly canSlide: boolean;
}

/**
 * Lowest finite float32: `exp` of it is an exact zero, while -Infinity would make a fully masked
 * row NaN.
 */
export const MASKED = -3.4028234663852886e38;

/** A model ready to run. One call at a time. */
export interface ModelRunner {
  readonly shape: ModelShape;
  run(input: ModelInput): Promise<ModelOutput>;
  close(): Promise<void>;
}
