import type {
  LayerCache,
  ModelInput,
  ModelOutput,
  ModelRunner,
  ModelShape,
} from '../../worker/model/runner.ts';
import { checkShapes } from './model-input-shapes.ts';
import { EOS, NAN_TOKEN, VOCAB_SIZE } from './tiny-tokens.ts';

const NUM_LAYERS = 2;
const NUM_HEADS = 2;
const HEAD_DIM = 4;
const WIDTH = NUM_HEADS * HEAD_DIM;

export interface TinyModelOptions {
  readonly slidingWindow?: number | null;
  readonly canSlide?: boolean;
  readonly maxSequenceTokens?: number;
  /** How far it is from the model that others are: a draft model is a little. */
  readonly drift?: number;
}

/** A fixed number in [-1, 1] for each pair. */
function weight(a: number, b: number): number {
  return WEIGHTS[a * 128 + b]!;
}

const WEIGHTS = Float64Array.from({ length: 128 * 128 }, (_, i) =>
  Math.sin(Math.floor(i / 128) * 12.9898 + (i % 128) * 78.233 + 1),
);

/**
 * The least that can be called a transformer: embeddings, two layers of attention with two heads,
 * logits that exaggerate. They depend on every token before, and on where it stood, by way of the
 * keys and values that the model is handed: a token in a wrong row, column or position, or a column
 * too many, changes the text.
 *
 * Like a real one it sums columns in order and lets NaN through a mask, and it writes to nothing it
 * is given.
 */
export class TinyModel implements ModelRunner {
  readonly shape: ModelShape;
  readonly #drift: number;
  /** All calls so far. */
  readonly calls: ModelInput[] = [];
  /** While set, every number that it gives is NaN. */
  isFaulty = false;

  constructor({
    slidingWindow = null,
    canSlide = true,
    maxSequenceTokens = 2048,
    drift = 0,
  }: TinyModelOptions = {}) {
    this.#drift = drift;
    this.shape = {
      numLayers: NUM_LAYERS,
      numKvHeads: NUM_HEADS,
      headDim: HEAD_DIM,
      vocabSize: VOCAB_SIZE,
      maxSequenceTokens,
      slidingWindow,
      canSlide,
    };
  }

  async run(input: ModelInput): Promise<ModelOutput> {
    checkShapes(input, WIDTH);
    this.calls.push(input);
    const { numRows, numNewTokens } = input;
    const empty = () => new Float32Array(numRows * WIDTH * numNewTokens);
    const newKeys = input.layers.map(empty);
    const newValues = input.layers.map(empty);
    const hidden: (readonly number[])[] = []; // [numRows * numNewTokens] of [width]
    for (let row = 0; row < numRows; row += 1) {
      let x = embeddingsOf(input, row);
      for (const i of input.layers.keys()) {
        const attention = new RowAttention(input, i, row, x);
        newKeys[i]!.set(attention.newKeys, row * WIDTH * numNewTokens);
        newValues[i]!.set(attention.newValues, row * WIDTH * numNewTokens);
        x = x.map((each, token) => mix(each, attention.attend(token), i));
      }
      hidden.push(...x);
    }
    const logits = [...input.logitIndices].flatMap((index) => this.#logits(hidden[index]!));
    if (this.isFaulty) for (const part of [...newKeys, ...newValues, logits]) part.fill(NaN);
    return { logits: Float32Array.from(logits), newKeys, newValues };
  }

  #logits(x: readonly number[]): number[] {
    return Array.from({ length: VOCAB_SIZE }, (_, tokenId) => {
      let sum = this.#drift * weight(tokenId, 120);
      for (let d = 0; d < WIDTH; d += 1) sum += weight(tokenId, d) * x[d]!;
      // Far apart, so that a slight change of x is another token; special ones hardly ever.
      const rare = tokenId === EOS ? 3.5 : tokenId <= NAN_TOKEN ? 50 : 0;
      return 4 * Math.sin(9 * sum) - rare;
    });
  }

  async close(): Promise<void> {}
}

/** @returns [numNewTokens] of [width] */
function embeddingsOf({ tokenIds, positions, numNewTokens }: ModelInput, row: number): number[][] {
  return Array.from({ length: numNewTokens }, (_, i) => {
    const tokenId = tokenIds[row * numNewTokens + i]!;
    const position = positions[row * numNewTokens + i]!;
    if (tokenId === NAN_TOKEN) return Array<number>(WIDTH).fill(NaN);
    return Array.from(
      { length: WIDTH },
      (_, d) => weight(tokenId, d + 80) + 0.5 * Math.sin(position * 0.37 * (d + 1)),
    );
  });
}

/** What a layer makes of a token and of what it saw. */
function mix(x: readonly number[], seen: readonly number[], layer: number): number[] {
  return x.map((value, d) => {
    let sum = 0.4 * value;
    for (let e = 0; e < WIDTH; e += 1) sum += 1.5 * weight(d, e + 20 + layer) * seen[e]!;
    return Math.sin(sum);
  });
}

interface HeadColumns {
  /** Of the columns, the first so many. */
  readonly numSinks: number;
  readonly keys: readonly number[]; // [numColumns * headDim]
  readonly values: readonly number[];
}

const NO_SINKS = { sinkKeys: new Float32Array(), sinkValues: new Float32Array() };

/** One row of a call in one layer. */
class RowAttention {
  readonly newKeys: Float32Array; // [numHeads, numNewTokens, headDim]
  readonly newValues: Float32Array;
  readonly #input: ModelInput;
  readonly #row: number;
  readonly #x: readonly (readonly number[])[]; // [numNewTokens] of [width]
  readonly #layer: LayerCache;
  readonly #index: number;
  /** The tail with the new tokens in it. */
  readonly #tailKeys: Float32Array; // [numHeads, tailCapacity, headDim]
  readonly #tailValues: Float32Array;
  readonly #columns: readonly HeadColumns[]; // [numHeads]

  constructor(input: ModelInput, index: number, row: number, x: readonly (readonly number[])[]) {
    const layer = input.layers[index]!;
    this.#input = input;
    this.#layer = layer;
    this.#index = index;
    this.#row = row;
    this.#x = x;
    this.newKeys = this.#project((each, d) => 1.5 * each[d]! + each[(d + 3) % WIDTH]!);
    this.newValues = this.#project((each, d) => each[(d + 5) % WIDTH]! - 0.5 * each[d]!);
    this.#tailKeys = this.#scatter(layer.tailKeys, this.newKeys);
    this.#tailValues = this.#scatter(layer.tailValues, this.newValues);
    this.#columns = Array.from({ length: NUM_HEADS }, (_, head) => this.#columnsOf(head));
  }

  #project(value: (x: readonly number[], d: number) => number): Float32Array {
    const { numNewTokens } = this.#input;
    const projected = new Float32Array(WIDTH * numNewTokens);
    for (const [i, x] of this.#x.entries()) {
      for (let d = 0; d < WIDTH; d += 1) {
        const head = Math.floor(d / HEAD_DIM);
        projected[(head * numNewTokens + i) * HEAD_DIM + (d % HEAD_DIM)] = value(x, d);
      }
    }
    return projected;
  }

  #scatter(tail: Float32Array, fresh: Float32Array): Float32Array {
    const { tailCapacity, numNewTokens, writeIndices } = this.#input;
    const length = WIDTH * tailCapacity;
    const scattered = tail.slice(this.#row * length, (this.#row + 1) * length);
    for (let head = 0; head < NUM_HEADS; head += 1) {
      const start = head * numNewTokens * HEAD_DIM;
      scattered.set(
        fresh.subarray(start, start + numNewTokens * HEAD_DIM),
        (head * tailCapacity + writeIndices[this.#row]!) * HEAD_DIM,
      );
    }
    return scattered;
  }

  /** What new token `i` sees. @returns [width] */
  attend(i: number): number[] {
    return Array.from({ length: NUM_HEADS }, (_, head) => this.#attendHead(i, head)).flat();
  }

  /** Keys and values of all columns that a head has in this row, one part after the other. */
  #columnsOf(head: number): HeadColumns {
    const { frozenCapacity, tailCapacity, sinks } = this.#input;
    const { frozenKeys, frozenValues } = this.#layer;
    const at = this.#row * NUM_HEADS + head;
    const cut = (part: Float32Array, capacity: number, index: number) =>
      part.subarray(index * capacity * HEAD_DIM, (index + 1) * capacity * HEAD_DIM);
    const numSinks = sinks?.capacity ?? 0;
    const { sinkKeys, sinkValues } = sinks?.layers[this.#index] ?? NO_SINKS;
    const join = (sink: Float32Array, frozen: Float32Array, tail: Float32Array) => [
      ...cut(sink, numSinks, at),
      ...cut(frozen, frozenCapacity, at),
      ...cut(tail, tailCapacity, head),
    ];
    return {
      numSinks,
      keys: join(sinkKeys, frozenKeys, this.#tailKeys),
      values: join(sinkValues, frozenValues, this.#tailValues),
    };
  }

  /** All columns; those of sinks as they are seen from the token's place. */
  #attendHead(i: number, head: number): number[] {
    const { numNewTokens, mask, sinks } = this.#input;
    const { numSinks, keys, values } = this.#columns[head]!;
    const query = this.#x[i]!.slice(head * HEAD_DIM, (head + 1) * HEAD_DIM);
    const place = sinks?.places[this.#row * numNewTokens + i] ?? 0;
    const sinkQuery = query.map((value, d) => value + 0.5 * Math.sin(place * 0.73 * (d + 1)));
    const numColumns = keys.length / HEAD_DIM;
    const maskStart = (this.#row * numNewTokens + i) * numColumns;

    const scores = new Float64Array(numColumns);
    let greatest = -Infinity;
    for (let column = 0; column < numColumns; column += 1) {
      const seenBy = column < numSinks ? sinkQuery : query;
      let score = mask[maskStart + column]!;
      for (let d = 0; d < HEAD_DIM; d += 1) score += seenBy[d]! * keys[column * HEAD_DIM + d]!;
      scores[column] = score;
      greatest = Math.max(greatest, score);
    }
    const sums = Array<number>(HEAD_DIM).fill(0);
    let total = 0;
    for (let column = 0; column < numColumns; column += 1) {
      const share = Math.exp(scores[column]! - greatest);
      total += share;
      for (let d = 0; d < HEAD_DIM; d += 1) sums[d]! += share * values[column * HEAD_DIM + d]!;
    }
    return sums.map((sum) => sum / total);
  }
}
