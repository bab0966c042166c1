import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { invariant } from '../../../shared/assert.ts';
import { type Checkpoint, openCheckpoint } from '../../../worker/model/checkpoint.ts';
import { digestFiles } from '../../../worker/model/digest.ts';
import type { LazyTensor } from '../../../worker/model/tensor.ts';

/** Raised with every change of what is written, so that older files are not used. */
const FORMAT = 2;
const ALIGNMENT = 32;

/** Type numbers of the GGUF specification, version 3. */
const UINT32 = 4;
const INT32 = 5;
const FLOAT32 = 6;
const STRING = 8;
const ARRAY = 9;
const TENSOR_F32 = 0;

/** Kinds of tokens: an ordinary one, one that controls, a byte. */
const NORMAL = 1;
const CONTROL = 3;
const BYTE = 6;

/**
 * Path of a Llama checkpoint's weights as a GGUF file in float32, written at first use, so that
 * llama.cpp computes with the very numbers that we do. Its tokenizer is a list of names: token ids
 * go in and out.
 */
export async function ensureGguf(modelDir: string, cacheDir: string): Promise<string> {
  const checkpoint = openCheckpoint(modelDir);
  try {
    const digest = await digestFiles(checkpoint.paths);
    const directory = join(cacheDir, 'gguf');
    const path = join(directory, `${checkpoint.name}-${digest.slice(0, 16)}-${FORMAT}.gguf`);
    if (existsSync(path)) return path;
    mkdirSync(directory, { recursive: true });
    const partial = `${path}.${process.pid}`;
    writeGguf(checkpoint, partial);
    renameSync(partial, path);
    return path;
  } finally {
    checkpoint.weights.close();
  }
}

interface NamedTensor extends LazyTensor {
  readonly name: string;
}

function writeGguf(checkpoint: Checkpoint, path: string): void {
  const tensors = toTensors(checkpoint);
  const metadata = toMetadata(checkpoint);
  const header = new Encoder();
  header.bytes(Buffer.from('GGUF'));
  header.uint32(3);
  header.uint64(tensors.length);
  header.uint64(metadata.length);
  for (const [key, write] of metadata) {
    header.string(key);
    write(header);
  }
  let end = 0;
  for (const { name, dims } of tensors) {
    header.string(name);
    header.uint32(dims.length);
    for (const dim of dims.toReversed()) header.uint64(dim); // the fastest first
    header.uint32(TENSOR_F32);
    header.uint64(end);
    end += padded(4 * sizeOf(dims));
  }

  const file = openSync(path, 'w');
  try {
    writeSync(file, header.take());
    for (const tensor of tensors) {
      const data = tensor.load();
      invariant(data.length === sizeOf(tensor.dims), `${tensor.name} is not what its shape says`);
      writeSync(file, data);
      writeSync(file, new Uint8Array(padded(data.byteLength) - data.byteLength));
    }
  } finally {
    closeSync(file);
  }
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function padded(numBytes: number): number {
  return Math.ceil(numBytes / ALIGNMENT) * ALIGNMENT;
}

function toTensors({ config, weights }: Checkpoint): NamedTensor[] {
  const { hiddenSize, intermediateSize, headDim, numHeads, numKvHeads, vocabSize } = config;
  const isPlain = config.rope?.scaling.type === 'none' && !config.hasQkvBias && !config.hasMlpBias;
  invariant(config.architecture === 'LlamaForCausalLM' && isPlain, 'a plain Llama');
  const queries = numHeads * headDim;
  const keys = numKvHeads * headDim;
  const read = (source: string, name: string, dims: readonly number[]) => ({
    ...weights.tensor(`${source}.weight`, dims),
    name: `${name}.weight`,
  });
  const rotated = (tensor: NamedTensor) => ({ ...tensor, load: () => interleave(tensor, headDim) });
  const layers = Array.from({ length: config.numLayers }, (_, layer) => {
    const from = `model.layers.${layer}`;
    const to = `blk.${layer}`;
    return [
      read(`${from}.input_layernorm`, `${to}.attn_norm`, [hiddenSize]),
      rotated(read(`${from}.self_attn.q_proj`, `${to}.attn_q`, [queries, hiddenSize])),
      rotated(read(`${from}.self_attn.k_proj`, `${to}.attn_k`, [keys, hiddenSize])),
      read(`${from}.self_attn.v_proj`, `${to}.attn_v`, [keys, hiddenSize]),
      read(`${from}.self_attn.o_proj`, `${to}.attn_output`, [hiddenSize, queries]),
      read(`${from}.post_attention_layernorm`, `${to}.ffn_norm`, [hiddenSize]),
      read(`${from}.mlp.gate_proj`, `${to}.ffn_gate`, [intermediateSize, hiddenSize]),
      read(`${from}.mlp.up_proj`, `${to}.ffn_up`, [intermediateSize, hiddenSize]),
      read(`${from}.mlp.down_proj`, `${to}.ffn_down`, [hiddenSize, intermediateSize]),
    ];
  });
  const embedding = read('model.embed_tokens', 'token_embd', [vocabSize, hiddenSize]);
  const head = config.isHeadTied ? [] : [read('lm_head', 'output', [vocabSize, hiddenSize])];
  return [embedding, ...layers.flat(), read('model.norm', 'output_norm', [hiddenSize]), ...head];
}

/**
 * Llama.cpp rotates neighbors where Hugging Face rotates halves: of each head, rows 0, 1, 2, 3
 * become rows 0, 2, 1, 3.
 */
function interleave({ dims, load }: NamedTensor, headDim: number): Float32Array {
  const source = load();
  const data = new Float32Array(source.length);
  const [numRows = 0, numColumns = 0] = dims;
  for (let row = 0; row < numRows; row += 1) {
    const i = row % headDim;
    const from = row - i + Math.floor(i / 2) + (i % 2) * (headDim / 2);
    data.set(source.subarray(from * numColumns, (from + 1) * numColumns), row * numColumns);
  }
  return data;
}

type Entry = readonly [key: string, write: (encoder: Encoder) => void];

function toMetadata({ config, bosTokenId, eosTokenIds }: Checkpoint): Entry[] {
  const { vocabSize, headDim } = config;
  const special = new Set([bosTokenId, ...eosTokenIds]);
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  const text = (key: string, value: string): Entry => [key, (to) => to.typedString(value)];
  const count = (key: string, value: number): Entry => [key, (to) => to.typedUint32(value)];
  const real = (key: string, value: number): Entry => [key, (to) => to.typedFloat32(value)];
  return [
    text('general.architecture', 'llama'),
    count('llama.context_length', config.maxSequenceTokens),
    count('llama.embedding_length', config.hiddenSize),
    count('llama.block_count', config.numLayers),
    count('llama.feed_forward_length', config.intermediateSize),
    count('llama.attention.head_count', config.numHeads),
    count('llama.attention.head_count_kv', config.numKvHeads),
    count('llama.attention.key_length', headDim),
    count('llama.attention.value_length', headDim),
    real('llama.attention.layer_norm_rms_epsilon', config.normEpsilon),
    count('llama.rope.dimension_count', headDim),
    real('llama.rope.freq_base', config.rope?.theta ?? 10_000),
    count('llama.vocab_size', vocabSize),
    text('tokenizer.ggml.model', 'llama'),
    ['tokenizer.ggml.tokens', (to) => to.strings(ids.map((id) => nameOf(id, special)))],
    ['tokenizer.ggml.scores', (to) => to.float32s(ids.map((id) => -id))],
    ['tokenizer.ggml.token_type', (to) => to.int32s(ids.map((id) => kindOf(id, special)))],
    count('tokenizer.ggml.bos_token_id', bosTokenId ?? 0),
    count('tokenizer.ggml.eos_token_id', eosTokenIds[0] ?? 0),
  ];
}

/**
 * Llama.cpp wants a token for each byte and asks them for a line break: the first that are not
 * special.
 */
function kindOf(id: number, special: ReadonlySet<number | null>): number {
  if (special.has(id)) return CONTROL;
  return id <= 256 ? BYTE : NORMAL;
}

function nameOf(id: number, special: ReadonlySet<number | null>): string {
  if (kindOf(id, special) !== BYTE) return `<t${id}>`;
  return `<0x${(id - 1).toString(16).toUpperCase().padStart(2, '0')}>`;
}

/** Little-endian bytes, one value after the other. */
class Encoder {
  readonly #parts: Buffer[] = [];

  bytes(bytes: Buffer): void {
    this.#parts.push(bytes);
  }

  uint32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.bytes(bytes);
  }

  uint64(value: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.bytes(bytes);
  }

  string(text: string): void {
    const bytes = Buffer.from(text);
    this.uint64(bytes.length);
    this.bytes(bytes);
  }

  typedString(text: string): void {
    this.uint32(STRING);
    this.string(text);
  }

  typedUint32(value: number): void {
    this.uint32(UINT32);
    this.uint32(value);
  }

  typedFloat32(value: number): void {
    this.uint32(FLOAT32);
    this.bytes(Buffer.from(Float32Array.of(value).buffer));
  }

  strings(texts: readonly string[]): void {
    this.#startArray(STRING, texts.length);
    for (const text of texts) this.string(text);
  }

  float32s(values: readonly number[]): void {
    this.#startArray(FLOAT32, values.length);
    this.bytes(Buffer.from(Float32Array.from(values).buffer));
  }

  int32s(values: readonly number[]): void {
    this.#startArray(INT32, values.length);
    this.bytes(Buffer.from(Int32Array.from(values).buffer));
  }

  #startArray(type: number, length: number): void {
    this.uint32(ARRAY);
    this.uint32(type);
    this.uint64(length);
  }

  /** All of it, filled up to where tensors may begin. */
  take(): Buffer {
    const whole = Buffer.concat(this.#parts);
    return Buffer.concat([whole, Buffer.alloc(padded(whole.length) - whole.length)]);
  }
}
