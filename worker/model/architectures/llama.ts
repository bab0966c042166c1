import {
  type AttentionInputs,
  addAttention,
  addAttentionInputs,
  addCacheOutputs,
  mixGain,
  newKeysName,
  newValuesName,
  type Projections,
  splitHeads,
} from '../attention.ts';
import type { Builder } from '../builder.ts';
import { embed } from '../embedding.ts';
import { float, MICROSOFT, type Value } from '../graph.ts';
import { addHead } from '../head.ts';
import { linear } from '../linear.ts';
import { concatRows, scale } from '../tensor.ts';

const EMBEDDING = 'model.embed_tokens.weight';

interface SharedInputs extends AttentionInputs {
  readonly cos: Value; // [rows, newTokens, headDim / 2]
  readonly sin: Value; // [rows, newTokens, headDim / 2]
  /** The same for the places from which tokens look at sinks; `null` where the graph has none. */
  readonly atPlaces: Pick<SharedInputs, 'cos' | 'sin'> | null;
}

/**
 * The graph of Llama and its relatives: pre-norm, rotary positions, grouped queries, gated MLP.
 * Mistral is the same; Qwen2 adds biases to queries, keys and values, Qwen3 norms to queries and
 * keys.
 *
 * Touvron et al., "LLaMA", arXiv:2302.13971.
 */
export function buildLlama(builder: Builder): void {
  const { graph, config, weights, hasSinks } = builder;
  const { vocabSize, hiddenSize, headDim, numLayers } = config;

  const tokenIds = graph.input('tokenIds', 'int32', ['rows', 'newTokens']);
  const rotation = ['rows', 'newTokens', headDim / 2];
  const shared = {
    cos: graph.input('cos', 'float32', rotation),
    sin: graph.input('sin', 'float32', rotation),
    atPlaces: hasSinks
      ? {
          cos: graph.input('placeCos', 'float32', rotation),
          sin: graph.input('placeSin', 'float32', rotation),
        }
      : null,
    ...addAttentionInputs(builder),
  };
  const table = weights.tensor(EMBEDDING, [vocabSize, hiddenSize]);

  let residual = embed(builder, tokenIds, { name: EMBEDDING, tensor: table });
  let update: Value | null = null;
  for (let layer = 0; layer < numLayers; layer += 1) {
    const prefix = `model.layers.${layer}`;
    const attentionIn = addNorm(builder, residual, update, `${prefix}.input_layernorm.weight`);
    const attentionOut = addSelfAttention(builder, layer, attentionIn.normed, shared);
    const mlpIn = addNorm(
      builder,
      attentionIn.residual,
      attentionOut,
      `${prefix}.post_attention_layernorm.weight`,
    );
    update = addMlp(builder, prefix, mlpIn.normed);
    residual = mlpIn.residual;
  }
  const { normed } = addNorm(builder, residual, update, 'model.norm.weight');
  const headName = config.isHeadTied ? EMBEDDING : 'lm_head.weight';
  const head = weights.tensor(headName, [vocabSize, hiddenSize]);
  addHead(builder, normed, { name: headName, tensor: head });
}

/** Adds what the last block gave to the residual stream and normalizes the sum, in one node. */
function addNorm(
  { graph, config, weights }: Builder,
  residual: Value,
  update: Value | null,
  name: string,
): { normed: Value; residual: Value } {
  const weight = graph.weight(name, weights.tensor(name, [config.hiddenSize]));
  const attributes = { epsilon: float(config.normEpsilon) };
  if (update === null) {
    const normed = graph.node('SimplifiedLayerNormalization', [residual, weight], { attributes });
    return { normed, residual };
  }
  const normed = graph.newValue('normed');
  const sum = graph.newValue('residual');
  graph.nodeWithOutputs(
    'SkipSimplifiedLayerNormalization',
    [residual, update, weight],
    [normed, '', '', sum],
    { attributes, domain: MICROSOFT },
  );
  return { normed, residual: sum };
}

function addSelfAttention(
  builder: Builder,
  layer: number,
  input: Value,
  shared: SharedInputs,
): Value {
  const { config } = builder;
  const { hiddenSize, numHeads, numKvHeads, headDim } = config;
  const prefix = `model.layers.${layer}.self_attn`;
  const parts = [
    { name: 'q_proj', numOutputs: numHeads * headDim },
    { name: 'k_proj', numOutputs: numKvHeads * headDim },
    { name: 'v_proj', numOutputs: numKvHeads * headDim },
  ];
  const fused = addLinear(builder, {
    name: `${prefix}.qkv_proj`,
    input,
    parts: parts.map(({ name, numOutputs }) => ({ name: `${prefix}.${name}`, numOutputs })),
    numInputs: hiddenSize,
    hasBias: config.hasQkvBias,
  });
  const heads = splitHeads(builder, fused, { values: newValuesName(layer) });
  const projections = rotate(builder, layer, heads, shared);
  addCacheOutputs(builder, layer);

  const mixed = addAttention(builder, layer, projections, shared);
  return addLinear(builder, {
    name: `${prefix}.o_proj`,
    input: mixed,
    parts: [{ name: `${prefix}.o_proj`, numOutputs: hiddenSize }],
    numInputs: numHeads * headDim,
    hasBias: config.hasOutputBias,
    factor: 1 / mixGain(builder),
  });
}

/** Rotates queries and keys by their positions, after their own norms where the model has them. */
function rotate(
  { graph, config, weights }: Builder,
  layer: number,
  { queries, keys, values }: Projections,
  { cos, sin, atPlaces }: SharedInputs,
): Projections {
  const normed = (heads: Value, name: string) => {
    if (!config.hasQkNorm) return heads;
    const fullName = `model.layers.${layer}.self_attn.${name}.weight`;
    const weight = graph.weight(fullName, weights.tensor(fullName, [config.headDim]));
    const attributes = { epsilon: float(config.normEpsilon) };
    return graph.node('SimplifiedLayerNormalization', [heads, weight], { attributes });
  };
  const normedQueries = normed(queries, 'q_norm');
  return {
    queries: graph.node('RotaryEmbedding', [normedQueries, cos, sin]),
    sinkQueries:
      atPlaces && graph.node('RotaryEmbedding', [normedQueries, atPlaces.cos, atPlaces.sin]),
    keys: graph.node('RotaryEmbedding', [normed(keys, 'k_norm'), cos, sin], {
      name: newKeysName(layer),
    }),
    values,
  };
}

function addMlp(builder: Builder, prefix: string, input: Value): Value {
  const { graph, config } = builder;
  const { hiddenSize, intermediateSize, hasMlpBias } = config;
  const gateAndUp = addLinear(builder, {
    name: `${prefix}.mlp.gate_up_proj`,
    input,
    parts: ['gate_proj', 'up_proj'].map((name) => ({
      name: `${prefix}.mlp.${name}`,
      numOutputs: intermediateSize,
    })),
    numInputs: hiddenSize,
    hasBias: hasMlpBias,
  });
  const sizes = graph.integers(intermediateSize, intermediateSize);
  const [gate, up] = graph.splitInTwo(gateAndUp, sizes, 2);
  const silu = graph.node('QuickGelu', [gate], {
    domain: MICROSOFT,
    attributes: { alpha: float(1) },
  });
  return addLinear(builder, {
    name: `${prefix}.mlp.down_proj`,
    input: graph.node('Mul', [silu, up]),
    parts: [{ name: `${prefix}.mlp.down_proj`, numOutputs: hiddenSize }],
    numInputs: intermediateSize,
    hasBias: hasMlpBias,
  });
}

interface Linear {
  readonly name: string;
  readonly input: Value;
  /** Products that read the same input, done as one. */
  readonly parts: readonly { readonly name: string; readonly numOutputs: number }[];
  readonly numInputs: number;
  readonly hasBias: boolean;
  /** What weights are multiplied by, a power of two; 1 by default. */
  readonly factor?: number;
}

function addLinear(builder: Builder, layer: Linear): Value {
  const { graph, weights } = builder;
  const { name, input, parts, numInputs, hasBias } = layer;
  const tensor = concatRows(
    parts.map((part) => weights.tensor(`${part.name}.weight`, [part.numOutputs, numInputs])),
  );
  const product = linear(builder, input, {
    name: `${name}.weight`,
    tensor: scale(tensor, layer.factor ?? 1),
  });
  if (!hasBias) return product;
  const bias = concatRows(
    parts.map((part) => weights.tensor(`${part.name}.bias`, [part.numOutputs])),
  );
  return graph.node('Add', [product, graph.weight(`${name}.bias`, bias)]);
}
