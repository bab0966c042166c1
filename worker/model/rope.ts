/** How rotary positions are stretched beyond the trained length, as `rope_scaling` names it. */
export type RopeScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | { readonly type: 'dynamic'; readonly factor: number; readonly trainedTokens: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly trainedTokens: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly trainedTokens: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly attentionFactor: number;
      readonly isTruncated: boolean;
    };

export interface RopeConfig {
  readonly headDim: number;
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/**
 * Angle per position of each rotated pair at `position`.
 *
 * A pure function of the token's own position, also for dynamic NTK, whose base grows with the
 * length: a token takes the base of the sequence that ends with it. So a key does not depend on
 * what was read after it, nor on how the tokens were cut into steps.
 *
 * @returns [headDim / 2]
 *
 * Su et al., "RoFormer", arXiv:2104.09864. Peng et al., "YaRN", arXiv:2309.00071.
 */
export function inverseFrequencies(
  { headDim, theta, scaling }: RopeConfig,
  position: number,
): Float64Array {
  const base = scaling.type === 'dynamic' ? dynamicBase(theta, headDim, scaling, position) : theta;
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  switch (scaling.type) {
    case 'none':
    case 'dynamic':
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor);
    case 'llama3':
      return plain.map((frequency) => llama3Frequency(frequency, scaling));
    case 'yarn':
      return yarnFrequencies(plain, theta, scaling);
  }
}

type Scaling<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>;

function dynamicBase(
  theta: number,
  headDim: number,
  { factor, trainedTokens }: Scaling<'dynamic'>,
  position: number,
): number {
  const numTokens = Math.max(position + 1, trainedTokens);
  const stretch = (factor * numTokens) / trainedTokens - (factor - 1);
  return theta * stretch ** (headDim / (headDim - 2));
}

/** Long waves are stretched, short ones kept, those between blended. */
function llama3Frequency(frequency: number, scaling: Scaling<'llama3'>): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, trainedTokens } = scaling;
  const numWaves = (trainedTokens * frequency) / (2 * Math.PI);
  if (numWaves < lowFrequencyFactor) return frequency / factor;
  if (numWaves > highFrequencyFactor) return frequency;
  const keep = (numWaves - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return ((1 - keep) * frequency) / factor + keep * frequency;
}

/** NTK by parts: pairs that turn more than `betaFast` times over the trained length are kept. */
function yarnFrequencies(
  plain: Float64Array,
  theta: number,
  scaling: Scaling<'yarn'>,
): Float64Array {
  const { factor, trainedTokens, betaFast, betaSlow, isTruncated } = scaling;
  const headDim = 2 * plain.length;
  const pairTurning = (numTurns: number) =>
    (headDim * Math.log(trainedTokens / (numTurns * 2 * Math.PI))) / (2 * Math.log(theta));
  const first = isTruncated ? Math.floor(pairTurning(betaFast)) : pairTurning(betaFast);
  const last = isTruncated ? Math.ceil(pairTurning(betaSlow)) : pairTurning(betaSlow);
  const low = Math.max(first, 0);
  const high = Math.min(last, headDim - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((frequency, pair) => {
    const stretched = Math.min(Math.max((pair - low) / width, 0), 1);
    return stretched * (frequency / factor) + (1 - stretched) * frequency;
  });
}

/** Cosines and sines per position, computed in double precision, so that no position is too far. */
export class RopeTable {
  readonly #config: RopeConfig;
  /** Of the first positions, as they come. */
  readonly #rows: { cos: Float32Array; sin: Float32Array }[] = [];
  readonly #fixed: Float64Array | null;

  constructor(config: RopeConfig) {
    this.#config = config;
    this.#fixed = config.scaling.type === 'dynamic' ? null : inverseFrequencies(config, 0);
  }

  /**
   * Fills `cos` and `sin` for the tokens at `positions`.
   *
   * @param positions [numTokens]
   * @param cos [numTokens, headDim / 2], written
   * @param sin [numTokens, headDim / 2], written
   */
  fill(positions: Int32Array, cos: Float32Array, sin: Float32Array): void {
    const numPairs = this.#config.headDim / 2;
    for (let i = 0; i < positions.length; i += 1) {
      const position = positions[i]!;
      const row = this.#rows[position] ?? this.#compute(position);
      if (position < MAX_KEPT_ROWS) this.#rows[position] = row;
      cos.set(row.cos, i * numPairs);
      sin.set(row.sin, i * numPairs);
    }
  }

  #compute(position: number) {
    const { scaling } = this.#config;
    const frequencies = this.#fixed ?? inverseFrequencies(this.#config, position);
    const magnitude = scaling.type === 'yarn' ? scaling.attentionFactor : 1;
    return {
      cos: Float32Array.from(frequencies, (f) => magnitude * Math.cos(position * f)),
      sin: Float32Array.from(frequencies, (f) => magnitude * Math.sin(position * f)),
    };
  }
}

/** Positions whose rows are kept: endless sequences would fill the memory with those of all. */
const MAX_KEPT_ROWS = 16_384;
