import { z } from 'zod';
import { ModelError } from './model-error.ts';
import type { RopeConfig, RopeScaling } from './rope.ts';

const factor = z.number().min(1);

/** `rope_scaling`, and `rope_parameters` as newer checkpoints call it. */
export const ropeScalingSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the older name
  rope_theta: z.number().positive().optional(),
  factor: factor.optional(),
  original_max_position_embeddings: z.int().positive().nullish(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  beta_fast: z.number().positive().nullish(),
  beta_slow: z.number().positive().nullish(),
  attention_factor: z.number().positive().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
  partial_rotary_factor: z.literal(1, { error: 'partial rotation is not supported' }).optional(),
});

type ScalingJson = z.infer<typeof ropeScalingSchema>;

interface RopeJson {
  readonly headDim: number;
  readonly max_position_embeddings: number;
  readonly rope_theta?: number | undefined;
  readonly rope_scaling?: ScalingJson | null | undefined;
  readonly rope_parameters?: ScalingJson | null | undefined;
}

/**
 * The rotation of a checkpoint and how many positions it can tell apart.
 *
 * @throws {ModelError} naming a kind or a value that is not supported
 */
export function parseRope(raw: RopeJson, path: string) {
  const json = raw.rope_parameters ?? raw.rope_scaling ?? {};
  const maxTokens = raw.max_position_embeddings;
  const scaling = parseScaling(json, maxTokens, path);
  const theta = json.rope_theta ?? raw.rope_theta ?? 10_000;
  const rope: RopeConfig = { headDim: raw.headDim, theta, scaling };
  return { rope, maxSequenceTokens: stretchedTokens(scaling, maxTokens) };
}

function parseScaling(json: ScalingJson, maxTokens: number, path: string): RopeScaling {
  const type = json.rope_type ?? json.type ?? 'default';
  const required = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number => {
    const value = json[name];
    if (value === undefined) throw new ModelError(`${path}: rope_scaling ${type} lacks ${name}`);
    return value;
  };
  const trainedTokens = json.original_max_position_embeddings ?? maxTokens;
  switch (type) {
    case 'default':
      return { type: 'none' };
    case 'linear':
      return { type: 'linear', factor: required('factor') };
    case 'dynamic':
      return { type: 'dynamic', factor: required('factor'), trainedTokens: maxTokens };
    case 'llama3':
      return {
        type: 'llama3',
        factor: required('factor'),
        lowFrequencyFactor: required('low_freq_factor'),
        highFrequencyFactor: required('high_freq_factor'),
        trainedTokens,
      };
    case 'yarn':
      return {
        type: 'yarn',
        factor: required('factor'),
        trainedTokens,
        betaFast: json.beta_fast ?? 32,
        betaSlow: json.beta_slow ?? 1,
        attentionFactor: yarnAttentionFactor(json, required('factor')),
        isTruncated: json.truncate ?? true,
      };
    default:
      throw new ModelError(
        `${path}: rope_scaling of type ${type} is not supported; ` +
          'supported are linear, dynamic, llama3 and yarn',
      );
  }
}

/** What sharpens attention over a longer text: YaRN, arXiv:2309.00071, section 3.4. */
function yarnAttentionFactor(json: ScalingJson, factor: number): number {
  if (json.attention_factor != null) return json.attention_factor;
  const magnitude = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  if (json.mscale && json.mscale_all_dim) {
    return magnitude(json.mscale) / magnitude(json.mscale_all_dim);
  }
  return magnitude(1);
}

/**
 * `max_position_embeddings` is the trained length for linear and dynamic scaling and, when
 * `original_max_position_embeddings` stands beside it, already the stretched one for the others.
 */
function stretchedTokens(scaling: RopeScaling, maxTokens: number): number {
  switch (scaling.type) {
    case 'none':
    case 'llama3':
      return maxTokens;
    case 'linear':
    case 'dynamic':
      return Math.floor(maxTokens * scaling.factor);
    case 'yarn':
      return Math.max(maxTokens, Math.floor(scaling.trainedTokens * scaling.factor));
  }
}
