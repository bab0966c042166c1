import { z } from 'zod';
import { ModelError } from './model-error.ts';
import type { RopeConfig, RopeScaling } from './rope.ts';

const factor = z.number().min(1);

/** `rope_scaling`, and what newer checkpoints have in `rope_parameters` beside the base. */
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

/** Stands for every kind of layer where `rope_parameters` does not tell them apart. */
const EVERY_KIND = '*';

/** `rope_parameters` by the kind of layer, whether they are given so or once for all. */
export const ropeParametersSchema = z.preprocess(
  (json) => (isByKind(json) ? json : { [EVERY_KIND]: json }),
  z.record(z.string(), ropeScalingSchema),
);

function isByKind(json: unknown): boolean {
  const values = typeof json === 'object' && json !== null ? Object.values(json) : [];
  return values.some((value) => z.record(z.string(), z.unknown()).safeParse(value).success);
}

interface RopeJson {
  readonly headDim: number;
  readonly max_position_embeddings: number;
  readonly rope_theta?: number | undefined;
  readonly rope_scaling?: ScalingJson | null | undefined;
  readonly rope_parameters?: z.infer<typeof ropeParametersSchema> | null | undefined;
  readonly layer_types?: readonly string[] | null | undefined;
}

/**
 * The rotation of a checkpoint and how many positions it can tell apart.
 *
 * @throws {ModelError} naming a kind or a value that is not supported
 */
export function parseRope(raw: RopeJson, path: string) {
  const json = findScaling(raw, path);
  const maxTokens = raw.max_position_embeddings;
  const scaling = parseScaling(json, maxTokens, path);
  const theta = json.rope_theta ?? raw.rope_theta ?? 10_000;
  const rope: RopeConfig = { headDim: raw.headDim, theta, scaling };
  return { rope, maxSequenceTokens: stretchedTokens(scaling, maxTokens) };
}

/** What all layers rotate by; layers that rotate differently cannot be expressed. */
function findScaling(
  { rope_scaling, rope_parameters: byKind, layer_types }: RopeJson,
  path: string,
): ScalingJson {
  if (byKind == null) return rope_scaling ?? {};
  const everywhere = byKind[EVERY_KIND];
  if (everywhere !== undefined) return everywhere;

  const kinds = [...new Set(layer_types ?? Object.keys(byKind))];
  const lacking = kinds.find((kind) => byKind[kind] === undefined);
  if (lacking !== undefined) {
    throw new ModelError(`${path}: rope_parameters has nothing for the layers ${lacking}`);
  }
  const scalings = kinds.map((kind) => byKind[kind] ?? {});
  if (new Set(scalings.map((scaling) => JSON.stringify(scaling))).size > 1) {
    throw new ModelError(
      `${path}: rope_parameters that differ by layers (${kinds.join(', ')}) are not supported`,
    );
  }
  return scalings[0] ?? {};
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
