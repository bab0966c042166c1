import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { invariant } from '../../shared/assert.ts';
import type { Checkpoint } from '../../worker/model/checkpoint.ts';
import type { InflatedShape } from './inflate.ts';

export interface InflatedTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dtype: 'BF16' | 'F32';
  readonly load: () => Float32Array;
}

/**
 * The constant that a real token's embedding carries, once positive and once negative, in two
 * columns behind its own. No layer writes there, so it reaches the last norm as it is.
 */
const CONSTANT = 2 ** -6;

/** Brings the constant to the size of the other numbers behind the last norm, a few units. */
const CONSTANT_NORM = 2 ** 7;

/**
 * What the head of a padding token multiplies each constant with: 40 units or more below its
 * original.
 */
const PADDING_HEAD = -(2 ** 7);

/**
 * A Llama checkpoint made larger without changing what it computes, but for rounding:
 *
 * - The hidden vector is padded with zeros: nothing writes there. Since a norm then takes the mean
 *   over more numbers, its weights are divided by the root of the ratio of widths, and epsilon by
 *   the ratio.
 * - Added heads and added rows of the MLP compute copies of the real ones, which the columns of
 *   `o_proj` and `down_proj` that read them multiply with zero. In added layers all columns are
 *   zero.
 * - Added tokens have the embeddings of real ones, and a head that puts each below the token it
 *   copies: two columns of the hidden vector carry a constant, which cancels for real tokens (`c *
 *   c * w + -c * -c * -w`). Epsilon makes up for its square in the norms.
 *
 * So numbers are of the size that they have in the original, which matters where they get
 * quantized.
 */
export function inflatedTensors(checkpoint: Checkpoint, shape: InflatedShape) {
  const inflation = new Inflation(checkpoint, shape);
  return { config: inflation.config, tensors: inflation.tensors };
}

class Inflation {
  readonly #checkpoint: Checkpoint;
  readonly #shape: InflatedShape;

  constructor(checkpoint: Checkpoint, shape: InflatedShape) {
    const { config } = checkpoint;
    const { hiddenSize, numHeads, vocabSize } = shape;
    invariant(config.architecture === 'LlamaForCausalLM' && config.isHeadTied, 'a tied Llama');
    invariant(numHeads % this.#groupOf(checkpoint) === 0, 'whole groups of heads');
    const needsConstants = vocabSize > config.vocabSize;
    invariant(!needsConstants || hiddenSize >= config.hiddenSize + 2, 'room for the constants');
    this.#checkpoint = checkpoint;
    this.#shape = shape;
  }

  #groupOf({ config }: Checkpoint): number {
    return config.numHeads / config.numKvHeads;
  }

  get #ratio(): number {
    return this.#shape.hiddenSize / this.#checkpoint.config.hiddenSize;
  }

  get #hasPaddingTokens(): boolean {
    return this.#shape.vocabSize > this.#checkpoint.config.vocabSize;
  }

  get config(): Record<string, unknown> {
    const { modelDir, config } = this.#checkpoint;
    const { numLayers, hiddenSize, intermediateSize, numHeads, vocabSize } = this.#shape;
    const json: Record<string, unknown> = JSON.parse(
      readFileSync(join(modelDir, 'config.json'), 'utf8'),
    );
    const constants = this.#hasPaddingTokens ? (2 * CONSTANT ** 2) / hiddenSize : 0;
    const epsilon = config.normEpsilon / this.#ratio - constants;
    invariant(epsilon > 0, 'a constant that epsilon can make up for');
    return {
      ...json,
      vocab_size: vocabSize,
      hidden_size: hiddenSize,
      intermediate_size: intermediateSize,
      num_hidden_layers: numLayers,
      num_attention_heads: numHeads,
      num_key_value_heads: numHeads / this.#groupOf(this.#checkpoint),
      head_dim: config.headDim,
      rms_norm_eps: epsilon,
    };
  }

  get tensors(): InflatedTensor[] {
    const layers = Array.from({ length: this.#shape.numLayers }, (_, layer) => this.#layer(layer));
    return [this.#embedding(), ...layers.flat(), this.#finalNorm()];
  }

  #layer(layer: number): InflatedTensor[] {
    const { config } = this.#checkpoint;
    const { hiddenSize, intermediateSize, numHeads } = this.#shape;
    const queries = numHeads * config.headDim;
    const keys = queries / this.#groupOf(this.#checkpoint);
    const ownQueries = config.numHeads * config.headDim;
    const ownKeys = config.numKvHeads * config.headDim;
    const isAdded = layer >= config.numLayers;
    const source = `model.layers.${layer % config.numLayers}`;
    const target = `model.layers.${layer}`;

    const from = (name: string, dims: readonly [number, number]) => ({
      name: `${target}.${name}.weight`,
      source: this.#checkpoint.weights.tensor(`${source}.${name}.weight`, dims),
    });
    const { hiddenSize: ownHidden, intermediateSize: ownInner } = config;
    // Reads the hidden vector: what pads it is zero, so any weights do; copies have the right size.
    const reader = (name: string, own: number, rows: number) =>
      matrix(from(name, [own, ownHidden]), [rows, hiddenSize], (row, column, at) =>
        at(row % own, column % ownHidden),
      );
    const writer = (name: string, own: number, columns: number) =>
      matrix(from(name, [ownHidden, own]), [hiddenSize, columns], (row, column, at) =>
        isAdded || row >= ownHidden || column >= own ? 0 : at(row, column),
      );
    return [
      reader('self_attn.q_proj', ownQueries, queries),
      reader('self_attn.k_proj', ownKeys, keys),
      reader('self_attn.v_proj', ownKeys, keys),
      writer('self_attn.o_proj', ownQueries, queries),
      reader('mlp.gate_proj', ownInner, intermediateSize),
      reader('mlp.up_proj', ownInner, intermediateSize),
      writer('mlp.down_proj', ownInner, intermediateSize),
      this.#norm(`${source}.input_layernorm.weight`, `${target}.input_layernorm.weight`),
      this.#norm(
        `${source}.post_attention_layernorm.weight`,
        `${target}.post_attention_layernorm.weight`,
      ),
    ];
  }

  #norm(source: string, name: string, constants: readonly number[] = []): InflatedTensor {
    const { hiddenSize } = this.#shape;
    const own = this.#checkpoint.weights.tensor(source, [this.#checkpoint.config.hiddenSize]);
    const root = Math.sqrt(this.#ratio);
    return {
      name,
      dims: [hiddenSize],
      dtype: 'F32', // the root of the ratio is no bfloat16
      load: () => {
        const data = new Float32Array(hiddenSize);
        for (const [i, weight] of own.load().entries()) data[i] = weight / root;
        data.set(constants, own.dims[0]);
        return data;
      },
    };
  }

  #finalNorm(): InflatedTensor {
    const constants = this.#hasPaddingTokens ? [CONSTANT_NORM, -CONSTANT_NORM] : [];
    return this.#norm('model.norm.weight', 'model.norm.weight', constants);
  }

  #embedding(): InflatedTensor {
    const { vocabSize: own, hiddenSize: ownHidden } = this.#checkpoint.config;
    const { vocabSize, hiddenSize } = this.#shape;
    const hasConstants = this.#hasPaddingTokens;
    const name = 'model.embed_tokens.weight';
    const source = this.#checkpoint.weights.tensor(name, [own, ownHidden]);
    return matrix({ name, source }, [vocabSize, hiddenSize], (row, column, at) => {
      if (column < ownHidden) return at(row % own, column);
      if (!hasConstants || column >= ownHidden + 2) return 0;
      if (row >= own) return PADDING_HEAD;
      return column === ownHidden ? CONSTANT : -CONSTANT;
    });
  }
}

type Cell = (row: number, column: number, at: (row: number, column: number) => number) => number;

interface Source {
  readonly name: string;
  readonly source: { readonly dims: readonly number[]; readonly load: () => Float32Array };
}

/** A matrix that is computed cell by cell from a smaller one. */
function matrix(
  { name, source }: Source,
  dims: readonly [number, number],
  cell: Cell,
): InflatedTensor {
  return {
    name,
    dims,
    dtype: 'BF16',
    load: () => {
      const own = source.load();
      const ownColumns = source.dims[1] ?? 0;
      const at = (row: number, column: number) => own[row * ownColumns + column] ?? 0;
      const [numRows, numColumns] = dims;
      const data = new Float32Array(numRows * numColumns);
      for (let row = 0; row < numRows; row += 1) {
        for (let column = 0; column < numColumns; column += 1) {
          data[row * numColumns + column] = cell(row, column, at);
        }
      }
      return data;
    },
  };
}
