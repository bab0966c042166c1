import { z } from 'zod';
import type { ExecutionProvider } from './builder.ts';
import { ModelError } from './model-error.ts';
import type { RopeConfig } from './rope.ts';
import { parseRope, ropeParametersSchema, ropeScalingSchema } from './rope-config.ts';

/** Architectures as `config.json` names them. */
export const ARCHITECTURES = [
  'LlamaForCausalLM',
  'MistralForCausalLM',
  'Qwen2ForCausalLM',
  'Qwen3ForCausalLM',
  'GPT2LMHeadModel',
] as const;

export type Architecture = (typeof ARCHITECTURES)[number];

/** A decoder-only transformer, as far as its graph is concerned. */
export interface ModelConfig {
  readonly architecture: Architecture;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly normEpsilon: number;
  /** `null` where positions are learned. */
  readonly rope: RopeConfig | null;
  readonly maxSequenceTokens: number;
  readonly slidingWindow: number | null;
  readonly hasQkvBias: boolean;
  readonly hasOutputBias: boolean;
  readonly hasMlpBias: boolean;
  readonly hasQkNorm: boolean;
  /** Whether the output head is the embedding. */
  readonly isHeadTied: boolean;
}

/**
 * Whether a text may go on beyond the context behind sinks: where distance alone decides what a
 * rotation does, and nothing else slides. With dynamic NTK the angles depend on the length of the
 * text, and learned positions end.
 */
export function canSlide({ rope, slidingWindow }: ModelConfig): boolean {
  return rope !== null && rope.scaling.type !== 'dynamic' && slidingWindow === null;
}

/**
 * Whether the graph has a part for sinks; on WebGPU, which knows no part without columns, none has.
 */
export function hasSinks(config: ModelConfig, executionProvider: ExecutionProvider): boolean {
  return executionProvider === 'cpu' && canSlide(config);
}

const size = z.int().positive();

const llamaSchema = z.object({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  hidden_act: z.literal('silu', { error: 'only the activation silu is supported' }),
  max_position_embeddings: size,
  rms_norm_eps: z.number().positive(),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeScalingSchema.nullish(),
  rope_parameters: ropeParametersSchema.nullish(),
  partial_rotary_factor: z.literal(1, { error: 'partial rotation is not supported' }).optional(),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  pretraining_tp: z.literal(1, { error: 'only 1 is supported' }).optional(),
  tie_word_embeddings: z.boolean().default(false),
  sliding_window: size.nullish(),
  use_sliding_window: z.boolean().optional(),
  max_window_layers: z.int().nonnegative().optional(),
  layer_types: z.array(z.string()).nullish(),
});

const gpt2Schema = z.object({
  vocab_size: size,
  n_embd: size,
  n_layer: size,
  n_head: size,
  n_inner: size.nullish(),
  n_positions: size,
  layer_norm_epsilon: z.number().positive().default(1e-5),
  activation_function: z
    .enum(['gelu_new', 'gelu_pytorch_tanh'], { error: 'only gelu_new is supported' })
    .default('gelu_new'),
  scale_attn_weights: z.literal(true, { error: 'only true is supported' }).optional(),
  scale_attn_by_inverse_layer_idx: z
    .literal(false, { error: 'only false is supported' })
    .optional(),
  add_cross_attention: z.literal(false, { error: 'only false is supported' }).optional(),
  tie_word_embeddings: z.boolean().default(true),
});

const headerSchema = z.object({
  architectures: z.array(z.string()).min(1),
  quantization_config: z.unknown().optional(),
  is_encoder_decoder: z.boolean().default(false),
});

/**
 * What a `config.json` says, refusing whatever the graph would not do exactly.
 *
 * @param path named in errors
 * @throws {ModelError} naming the field that is missing, wrong or not supported
 */
export function parseConfig(json: unknown, path: string): ModelConfig {
  const header = parseWith(headerSchema, json, path);
  const architecture = ARCHITECTURES.find((name) => name === header.architectures[0]);
  if (architecture === undefined) {
    throw new ModelError(
      `${path}: architecture ${header.architectures[0]} is not supported; ` +
        `supported are ${ARCHITECTURES.join(', ')}`,
    );
  }
  if (header.quantization_config != null) {
    throw new ModelError(
      `${path}: quantization_config is not supported; use the checkpoint in F32, F16 or BF16`,
    );
  }
  const config =
    architecture === 'GPT2LMHeadModel'
      ? parseGpt2(parseWith(gpt2Schema, json, path))
      : parseLlama(architecture, parseWith(llamaSchema, json, path), path);
  checkHeads(config, path);
  return config;
}

function parseWith<Schema extends z.ZodType>(schema: Schema, json: unknown, path: string) {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path: at, message }) => `${at.join('.')}: ${message}`);
  throw new ModelError(`${path}: ${faults.join('; ')}`);
}

function parseGpt2(raw: z.infer<typeof gpt2Schema>): ModelConfig {
  return {
    architecture: 'GPT2LMHeadModel',
    vocabSize: raw.vocab_size,
    hiddenSize: raw.n_embd,
    intermediateSize: raw.n_inner ?? 4 * raw.n_embd,
    numLayers: raw.n_layer,
    numHeads: raw.n_head,
    numKvHeads: raw.n_head,
    headDim: raw.n_embd / raw.n_head,
    normEpsilon: raw.layer_norm_epsilon,
    rope: null,
    maxSequenceTokens: raw.n_positions,
    slidingWindow: null,
    hasQkvBias: true,
    hasOutputBias: true,
    hasMlpBias: true,
    hasQkNorm: false,
    isHeadTied: raw.tie_word_embeddings,
  };
}

type LlamaJson = z.infer<typeof llamaSchema>;

function parseLlama(
  architecture: Exclude<Architecture, 'GPT2LMHeadModel'>,
  raw: LlamaJson,
  path: string,
): ModelConfig {
  const headDim = raw.head_dim ?? raw.hidden_size / raw.num_attention_heads;
  const { rope, maxSequenceTokens } = parseRope({ ...raw, headDim }, path);
  const isQwen2 = architecture === 'Qwen2ForCausalLM';
  return {
    architecture,
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    intermediateSize: raw.intermediate_size,
    numLayers: raw.num_hidden_layers,
    numHeads: raw.num_attention_heads,
    numKvHeads: raw.num_key_value_heads ?? raw.num_attention_heads,
    headDim,
    normEpsilon: raw.rms_norm_eps,
    rope,
    maxSequenceTokens,
    slidingWindow: parseSlidingWindow(architecture, raw, path),
    hasQkvBias: isQwen2 || raw.attention_bias,
    hasOutputBias: !isQwen2 && raw.attention_bias,
    hasMlpBias: raw.mlp_bias,
    hasQkNorm: architecture === 'Qwen3ForCausalLM',
    isHeadTied: raw.tie_word_embeddings,
  };
}

/** The window that all layers share; layers of different kinds cannot be expressed. */
function parseSlidingWindow(
  architecture: Architecture,
  raw: LlamaJson,
  path: string,
): number | null {
  const kinds = new Set(raw.layer_types ?? []);
  if (kinds.size > 1) {
    throw new ModelError(
      `${path}: layer_types that differ (${[...kinds].join(', ')}) are not supported`,
    );
  }
  const [kind] = kinds;
  if (kind !== undefined && kind !== 'full_attention' && kind !== 'sliding_attention') {
    throw new ModelError(`${path}: layer_types ${kind} is not supported`);
  }
  if (kind === 'full_attention') return null;
  // It has no such window, whatever config.json says.
  if (architecture === 'LlamaForCausalLM') return null;
  if (architecture === 'MistralForCausalLM') return raw.sliding_window ?? null;

  // Qwen: layers from max_window_layers on slide, those before see everything.
  const slides = raw.use_sliding_window === true && raw.sliding_window != null;
  if (!slides) return null;
  const firstSliding = kind === 'sliding_attention' ? 0 : (raw.max_window_layers ?? 28);
  if (firstSliding >= raw.num_hidden_layers) return null;
  if (firstSliding === 0) return raw.sliding_window ?? null;
  throw new ModelError(
    `${path}: max_window_layers ${firstSliding} of ${raw.num_hidden_layers} layers is not supported; ` +
      'all layers must slide or none',
  );
}

/** Longer products of queries and keys are cut, and then summed differently by width. */
const MAX_HEAD_DIM = 128;

function checkHeads(config: ModelConfig, path: string): void {
  const { numHeads, numKvHeads, headDim, rope } = config;
  if (numHeads % numKvHeads !== 0) {
    throw new ModelError(`${path}: ${numHeads} heads cannot share ${numKvHeads} key-value heads`);
  }
  const isWhole = Number.isInteger(rope === null ? headDim : headDim / 2);
  if (!isWhole || headDim > MAX_HEAD_DIM) {
    throw new ModelError(
      `${path}: a head dimension of ${headDim} is not supported; it must be a whole number, ` +
        `even where positions are rotary, and at most ${MAX_HEAD_DIM}`,
    );
  }
}
