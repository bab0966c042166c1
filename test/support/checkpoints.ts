import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface StoredTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type Tensors = ReadonlyMap<string, StoredTensor>;

/** Fields of a `config.json`, as the checkpoint has them. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** A number of `config.json` that must be there. */
export function numberOf(config: ConfigJson, name: string): number {
  const value = config[name];
  if (typeof value !== 'number') throw new Error(`config lacks ${name}`);
  return value;
}

export function architectureOf(config: ConfigJson): string {
  const [name] = Array.isArray(config.architectures) ? config.architectures : [];
  return String(name);
}

type Shapes = Record<string, readonly number[]>;

/** Random weights of the shapes that the config calls for: norms near 1, all else near 0. */
export function randomTensors(config: ConfigJson, seed = 1): Map<string, StoredTensor> {
  const shapes = architectureOf(config) === 'GPT2LMHeadModel' ? gpt2(config) : llama(config);
  const random = lehmer(seed);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shape] of Object.entries(shapes)) {
    const size = shape.reduce((product, dim) => product * dim, 1);
    const isNorm = /(norm|ln_\w+)\.weight$/.test(name);
    const spread = shape.length === 1 ? 0.3 : isEmbedding(name) ? 1 : 2.5 / Math.sqrt(shape[1]!);
    const data = Float32Array.from({ length: size }, () => {
      const value = (random() + random() + random() - 1.5) * spread;
      return isNorm ? 1 + value : value;
    });
    tensors.set(name, { shape, data });
  }
  return tensors;
}

const isEmbedding = (name: string) => /embed_tokens|wte|wpe/.test(name);

/** Park and Miller's generator: enough for weights. */
function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

function llama(config: ConfigJson): Shapes {
  const hidden = numberOf(config, 'hidden_size');
  const inner = numberOf(config, 'intermediate_size');
  const vocab = numberOf(config, 'vocab_size');
  const numHeads = numberOf(config, 'num_attention_heads');
  const headDim = Number(config.head_dim ?? hidden / numHeads);
  const queries = numHeads * headDim;
  const keys = numberOf(config, 'num_key_value_heads') * headDim;
  const isQwen2 = architectureOf(config) === 'Qwen2ForCausalLM';

  const shapes: Shapes = { 'model.embed_tokens.weight': [vocab, hidden] };
  const addLinear = (name: string, shape: readonly [number, number], hasBias: boolean) => {
    shapes[`${name}.weight`] = shape;
    if (hasBias) shapes[`${name}.bias`] = [shape[0]];
  };
  for (let layer = 0; layer < numberOf(config, 'num_hidden_layers'); layer += 1) {
    const prefix = `model.layers.${layer}`;
    const hasBias = config.attention_bias === true;
    addLinear(`${prefix}.self_attn.q_proj`, [queries, hidden], hasBias || isQwen2);
    addLinear(`${prefix}.self_attn.k_proj`, [keys, hidden], hasBias || isQwen2);
    addLinear(`${prefix}.self_attn.v_proj`, [keys, hidden], hasBias || isQwen2);
    addLinear(`${prefix}.self_attn.o_proj`, [hidden, queries], hasBias);
    addLinear(`${prefix}.mlp.gate_proj`, [inner, hidden], config.mlp_bias === true);
    addLinear(`${prefix}.mlp.up_proj`, [inner, hidden], config.mlp_bias === true);
    addLinear(`${prefix}.mlp.down_proj`, [hidden, inner], config.mlp_bias === true);
    shapes[`${prefix}.input_layernorm.weight`] = [hidden];
    shapes[`${prefix}.post_attention_layernorm.weight`] = [hidden];
    if (architectureOf(config) !== 'Qwen3ForCausalLM') continue;
    shapes[`${prefix}.self_attn.q_norm.weight`] = [headDim];
    shapes[`${prefix}.self_attn.k_norm.weight`] = [headDim];
  }
  shapes['model.norm.weight'] = [hidden];
  if (config.tie_word_embeddings !== true) shapes['lm_head.weight'] = [vocab, hidden];
  return shapes;
}

function gpt2(config: ConfigJson): Shapes {
  const hidden = numberOf(config, 'n_embd');
  const inner = Number(config.n_inner ?? 4 * hidden);
  const shapes: Shapes = {
    'transformer.wte.weight': [numberOf(config, 'vocab_size'), hidden],
    'transformer.wpe.weight': [numberOf(config, 'n_positions'), hidden],
  };
  for (let layer = 0; layer < numberOf(config, 'n_layer'); layer += 1) {
    const prefix = `transformer.h.${layer}`;
    const products = {
      'attn.c_attn': [hidden, 3 * hidden],
      'attn.c_proj': [hidden, hidden],
      'mlp.c_fc': [hidden, inner],
      'mlp.c_proj': [inner, hidden],
    } as const;
    for (const [name, [numInputs, numOutputs]] of Object.entries(products)) {
      shapes[`${prefix}.${name}.weight`] = [numInputs, numOutputs];
      shapes[`${prefix}.${name}.bias`] = [numOutputs];
    }
    for (const name of ['ln_1', 'ln_2']) {
      shapes[`${prefix}.${name}.weight`] = [hidden];
      shapes[`${prefix}.${name}.bias`] = [hidden];
    }
  }
  shapes['transformer.ln_f.weight'] = [hidden];
  shapes['transformer.ln_f.bias'] = [hidden];
  if (config.tie_word_embeddings === false) {
    shapes['lm_head.weight'] = [numberOf(config, 'vocab_size'), hidden];
  }
  return shapes;
}

export type StoredType = 'F32' | 'F16' | 'BF16';

/** Writes a model directory: config, weights in one file, and the least of a tokenizer. */
export function writeCheckpoint(
  directory: string,
  config: ConfigJson,
  tensors: Tensors = randomTensors(config),
): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  writeFileSync(join(directory, 'tokenizer.json'), '{}');
  writeFileSync(join(directory, 'model.safetensors'), encodeSafetensors(tensors));
}

export function encodeSafetensors(tensors: Tensors, dtype: StoredType = 'F32'): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  const parts: Buffer[] = [];
  let end = 0;
  for (const [name, { shape, data }] of tensors) {
    const part = encodeNumbers(data, dtype);
    header[name] = { dtype, shape, data_offsets: [end, end + part.length] };
    parts.push(part);
    end += part.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...parts]);
}

function encodeNumbers(data: Float32Array, dtype: StoredType): Buffer {
  if (dtype === 'F32') return Buffer.from(data.slice().buffer);
  const halves = Buffer.alloc(2 * data.length);
  const bits = new Uint32Array(data.slice().buffer);
  for (const [i, value] of data.entries()) {
    halves.writeUInt16LE(dtype === 'BF16' ? bits[i]! >>> 16 : toHalf(value), 2 * i);
  }
  return halves;
}

/** Binary16 of a value that it can hold exactly, or of the nearest one towards zero. */
function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | Math.trunc(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  return sign | ((exponent + 15) << 10) | Math.trunc((magnitude / 2 ** exponent - 1) * 1024);
}
