import { architectureOf, type ConfigJson, numberOf, type Tensors } from './checkpoints.ts';
import { ropeAngles } from './rope-reference.ts';

type Vector = Float64Array;

/**
 * Logits of a whole text, computed the plain way in double precision from the checkpoint itself:
 * no cache, no chunks, one token and one head after the other.
 *
 * With a sink window, each token sees the first and the latest ones, at places that are counted
 * anew for it, as Xiao et al. have it (arXiv:2309.17453, section 3.2).
 *
 * @returns [numTokens] of [vocabSize]
 */
export function forward(
  config: ConfigJson,
  tensors: Tensors,
  tokenIds: readonly number[],
  sinkWindow: PlainWindow | null = null,
) {
  const model = new PlainModel(config, tensors);
  return architectureOf(config) === 'GPT2LMHeadModel'
    ? model.gpt2(tokenIds)
    : model.llama(tokenIds, sinkWindow);
}

export interface PlainWindow {
  readonly numSinks: number;
  readonly windowSize: number;
}

interface Heads {
  readonly queries: readonly Vector[]; // [numTokens] of [numHeads * headDim]
  readonly keys: readonly Vector[]; // [numTokens] of [numKvHeads * headDim]
  readonly values: readonly Vector[]; // [numTokens] of [numKvHeads * headDim]
  readonly headDim: number;
  readonly group: number;
  readonly window: number;
}

class PlainModel {
  readonly #config: ConfigJson;
  readonly #tensors: Tensors;
  readonly #rotationByPosition = new Map<number, Rotation>();

  constructor(config: ConfigJson, tensors: Tensors) {
    this.#config = config;
    this.#tensors = tensors;
  }

  llama(tokenIds: readonly number[], sinkWindow: PlainWindow | null): Vector[] {
    let stream = tokenIds.map((id) => this.#row('model.embed_tokens.weight', id));
    for (let layer = 0; layer < numberOf(this.#config, 'num_hidden_layers'); layer += 1) {
      const prefix = `model.layers.${layer}`;
      const mixed = this.#llamaAttention(
        `${prefix}.self_attn`,
        stream.map((x) => this.#rmsNorm(`${prefix}.input_layernorm`, x)),
        sinkWindow,
      );
      stream = stream.map((x, i) => add(x, mixed[i]!));
      stream = stream.map((x) => {
        const input = this.#rmsNorm(`${prefix}.post_attention_layernorm`, x);
        const gate = this.#linear(`${prefix}.mlp.gate_proj`, input);
        const up = this.#linear(`${prefix}.mlp.up_proj`, input);
        const inner = gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
        return add(x, this.#linear(`${prefix}.mlp.down_proj`, inner));
      });
    }
    const head = this.#tensors.has('lm_head.weight') ? 'lm_head' : 'model.embed_tokens';
    return stream.map((x) => this.#linear(head, this.#rmsNorm('model.norm', x)));
  }

  gpt2(tokenIds: readonly number[]): Vector[] {
    let stream = tokenIds.map((id, position) =>
      add(this.#row('transformer.wte.weight', id), this.#row('transformer.wpe.weight', position)),
    );
    const numHeads = numberOf(this.#config, 'n_head');
    const hidden = numberOf(this.#config, 'n_embd');
    for (let layer = 0; layer < numberOf(this.#config, 'n_layer'); layer += 1) {
      const prefix = `transformer.h.${layer}`;
      const fused = stream.map((x) =>
        this.#conv1d(`${prefix}.attn.c_attn`, this.#layerNorm(`${prefix}.ln_1`, x)),
      );
      const mixed = attend({
        queries: fused.map((x) => x.subarray(0, hidden)),
        keys: fused.map((x) => x.subarray(hidden, 2 * hidden)),
        values: fused.map((x) => x.subarray(2 * hidden)),
        headDim: hidden / numHeads,
        group: 1,
        window: Infinity,
      });
      stream = stream.map((x, i) => add(x, this.#conv1d(`${prefix}.attn.c_proj`, mixed[i]!)));
      stream = stream.map((x) => {
        const inner = this.#conv1d(`${prefix}.mlp.c_fc`, this.#layerNorm(`${prefix}.ln_2`, x));
        return add(x, this.#conv1d(`${prefix}.mlp.c_proj`, inner.map(geluTanh)));
      });
    }
    const head = this.#tensors.has('lm_head.weight') ? 'lm_head' : 'transformer.wte';
    return stream.map((x) => this.#linear(head, this.#layerNorm('transformer.ln_f', x)));
  }

  #llamaAttention(
    prefix: string,
    inputs: readonly Vector[],
    sinkWindow: PlainWindow | null,
  ): Vector[] {
    const numHeads = numberOf(this.#config, 'num_attention_heads');
    const hidden = numberOf(this.#config, 'hidden_size');
    const headDim = Number(this.#config.head_dim ?? hidden / numHeads);
    const project = (name: string) => inputs.map((x) => this.#linear(`${prefix}.${name}`, x));
    const normed = (heads: Vector, norm: string) => {
      for (let start = 0; start < heads.length; start += headDim) {
        const head = heads.subarray(start, start + headDim);
        if (this.#tensors.has(`${prefix}.${norm}.weight`)) {
          head.set(this.#rmsNorm(`${prefix}.${norm}`, head));
        }
      }
      return heads;
    };
    const rotationAt = this.#rotations(headDim);
    const placed = (heads: Vector, position: number) => {
      const copy = heads.slice();
      for (let start = 0; start < heads.length; start += headDim) {
        rotate(copy.subarray(start, start + headDim), rotationAt(position));
      }
      return copy;
    };
    const queries = project('q_proj').map((heads) => normed(heads, 'q_norm'));
    const keys = project('k_proj').map((heads) => normed(heads, 'k_norm'));
    const heads = {
      values: project('v_proj'),
      headDim,
      group: numHeads / numberOf(this.#config, 'num_key_value_heads'),
    };
    const mixed =
      sinkWindow === null
        ? attend({
            ...heads,
            queries: queries.map(placed),
            keys: keys.map(placed),
            window: Number(this.#config.sliding_window ?? Infinity),
          })
        : queries.map((query, position) => {
            const seen = seenFrom(position, sinkWindow);
            return attendOnce(
              {
                ...heads,
                keys: seen.map((other, place) => placed(keys[other]!, place)),
                values: seen.map((other) => heads.values[other]!),
              },
              placed(query, seen.length - 1),
            );
          });
    return mixed.map((x) => this.#linear(`${prefix}.o_proj`, x));
  }

  /** Rotations by position, each computed once. */
  #rotations(headDim: number) {
    return (position: number) => {
      const known = this.#rotationByPosition.get(position);
      if (known !== undefined) return known;
      const { angles, magnitude } = ropeAngles(this.#config, headDim, position);
      const rotation = {
        cos: angles.map((angle) => magnitude * Math.cos(angle)),
        sin: angles.map((angle) => magnitude * Math.sin(angle)),
      };
      this.#rotationByPosition.set(position, rotation);
      return rotation;
    };
  }

  #tensor(name: string) {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return tensor;
  }

  #row(name: string, row: number): Vector {
    const { shape, data } = this.#tensor(name);
    return Float64Array.from(data.subarray(row * shape[1]!, (row + 1) * shape[1]!));
  }

  #linear(name: string, x: Vector): Vector {
    const product = multiply(this.#tensor(`${name}.weight`), x);
    const bias = this.#tensors.get(`${name}.bias`)?.data;
    return bias ? product.map((value, i) => value + bias[i]!) : product;
  }

  /** Weights are [numInputs, numOutputs]. */
  #conv1d(name: string, x: Vector): Vector {
    const { shape, data } = this.#tensor(`${name}.weight`);
    const sum = Float64Array.from(this.#tensor(`${name}.bias`).data);
    for (const [i, value] of x.entries()) {
      for (let j = 0; j < sum.length; j += 1) sum[j]! += value * data[i * shape[1]! + j]!;
    }
    return sum;
  }

  #rmsNorm(name: string, x: Vector): Vector {
    const gain = this.#tensor(`${name}.weight`).data;
    const meanSquare = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    const scale = 1 / Math.sqrt(meanSquare + numberOf(this.#config, 'rms_norm_eps'));
    return x.map((value, i) => value * scale * gain[i]!);
  }

  #layerNorm(name: string, x: Vector): Vector {
    const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
    const scale = 1 / Math.sqrt(variance + numberOf(this.#config, 'layer_norm_epsilon'));
    const gain = this.#tensor(`${name}.weight`).data;
    const shift = this.#tensor(`${name}.bias`).data;
    return x.map((value, i) => (value - mean) * scale * gain[i]! + shift[i]!);
  }
}

/** @returns [numTokens] of [numHeads * headDim] */
function attend({ queries, keys, values, window, ...heads }: Heads): Vector[] {
  return queries.map((query, position) => {
    const first = Math.max(0, position + 1 - window);
    const seen = {
      keys: keys.slice(first, position + 1),
      values: values.slice(first, position + 1),
    };
    return attendOnce({ ...heads, ...seen }, query);
  });
}

/** One token's look at all of `keys`. @returns [numHeads * headDim] */
function attendOnce(
  { keys, values, headDim, group }: Omit<Heads, 'queries' | 'window'>,
  query: Vector,
): Vector {
  const mixed = new Float64Array(query.length);
  for (let start = 0; start < query.length; start += headDim) {
    const from = Math.floor(start / headDim / group) * headDim;
    const head = query.subarray(start, start + headDim);
    const scores = keys.map((key) => dot(head, key.subarray(from)));
    const greatest = Math.max(...scores);
    const exps = scores.map((score) => Math.exp((score - greatest) / Math.sqrt(headDim)));
    const total = exps.reduce((sum, value) => sum + value, 0);
    for (const [i, weight] of exps.entries()) {
      const value = values[i]!;
      for (let d = 0; d < headDim; d += 1) mixed[start + d]! += (weight / total) * value[from + d]!;
    }
  }
  return mixed;
}

/** The tokens that one sees, in the order of their places: the first ones, then the latest. */
function seenFrom(position: number, { numSinks, windowSize }: PlainWindow): number[] {
  const seen: number[] = [];
  for (let other = 0; other <= position; other += 1) {
    if (other < numSinks || position - other < windowSize) seen.push(other);
  }
  return seen;
}

interface Rotation {
  readonly cos: readonly number[];
  readonly sin: readonly number[];
}

/** Turns pairs (i, i + headDim / 2), as Hugging Face checkpoints are trained. */
function rotate(head: Vector, { cos, sin }: Rotation): void {
  for (let i = 0; i < cos.length; i += 1) {
    const first = head[i]!;
    const second = head[i + cos.length]!;
    head[i] = first * cos[i]! - second * sin[i]!;
    head[i + cos.length] = second * cos[i]! + first * sin[i]!;
  }
}

function multiply({ shape, data }: { shape: readonly number[]; data: Float32Array }, x: Vector) {
  const numInputs = shape[1]!;
  return Float64Array.from({ length: shape[0]! }, (_, row) =>
    dot(x, data.subarray(row * numInputs)),
  );
}

function dot(a: Vector, b: Vector | Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}

function add(a: Vector, b: Vector): Vector {
  return a.map((value, i) => value + b[i]!);
}

function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
