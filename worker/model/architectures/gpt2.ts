import {
  type AttentionInputs,
  addAttention,
  addAttentionInputs,
  addCacheOutputs,
  mixGain,
  newKeysName,
  newValuesName,
  splitHeads,
} from '../attention.ts';
import type { Builder } from '../builder.ts';
import { embed } from '../embedding.ts';
import { float, MICROSOFT, type Value } from '../graph.ts';
import { addHead } from '../head.ts';
import { linear } from '../linear.ts';
import { scale, transpose } from '../tensor.ts';

/** What a block adds to the residual stream; its bias is added together with it. */
interface Update {
  readonly value: Value;
  readonly bias: Value;
}

/**
 * The graph of GPT-2: learned positions, LayerNorm before each block, biases everywhere, GELU in
 * its tanh form, and weights stored as [numInputs, numOutputs].
 *
 * Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
 */
export function buildGpt2(builder: Builder): void {
  const { graph, config, weights } = builder;
  const { vocabSize, hiddenSize, numLayers, maxSequenceTokens } = config;
  const prefix = weights.has('transformer.wte.weight') ? 'transformer.' : '';

  const tokenIds = graph.input('tokenIds', 'int32', ['rows', 'newTokens']);
  const positions = graph.input('positions', 'int32', ['rows', 'newTokens']);
  const shared = addAttentionInputs(builder);
  const table = (name: string, numRows: number) => ({
    name: `${prefix}${name}`,
    tensor: weights.tensor(`${prefix}${name}`, [numRows, hiddenSize]),
  });
  const embedding = table('wte.weight', vocabSize);

  let residual = graph.node('Add', [
    embed(builder, tokenIds, embedding),
    embed(builder, positions, table('wpe.weight', maxSequenceTokens)),
  ]);
  let update: Update | null = null;
  for (let layer = 0; layer < numLayers; layer += 1) {
    const block = `${prefix}h.${layer}`;
    const attentionIn = addNorm(builder, residual, update, `${block}.ln_1`);
    const attentionOut = addSelfAttention(builder, layer, attentionIn.normed, { block, shared });
    const mlpIn = addNorm(builder, attentionIn.residual, attentionOut, `${block}.ln_2`);
    update = addMlp(builder, block, mlpIn.normed);
    residual = mlpIn.residual;
  }
  const { normed } = addNorm(builder, residual, update, `${prefix}ln_f`);
  const headName = config.isHeadTied ? embedding.name : 'lm_head.weight';
  const head = weights.tensor(headName, [vocabSize, hiddenSize]);
  addHead(builder, normed, { name: headName, tensor: head });
}

/** Adds what the last block gave to the residual stream and normalizes the sum, in one node. */
function addNorm(
  builder: Builder,
  residual: Value,
  update: Update | null,
  name: string,
): { normed: Value; residual: Value } {
  const { graph, config } = builder;
  const gain = addVector(builder, `${name}.weight`, config.hiddenSize);
  const shift = addVector(builder, `${name}.bias`, config.hiddenSize);
  const attributes = { epsilon: float(config.normEpsilon) };
  if (update === null) {
    const normed = graph.node('LayerNormalization', [residual, gain, shift], { attributes });
    return { normed, residual };
  }
  const normed = graph.newValue('normed');
  const sum = graph.newValue('residual');
  graph.nodeWithOutputs(
    'SkipLayerNormalization',
    [residual, update.value, gain, shift, update.bias],
    [normed, '', '', sum],
    { attributes, domain: MICROSOFT },
  );
  return { normed, residual: sum };
}

function addSelfAttention(
  builder: Builder,
  layer: number,
  input: Value,
  { block, shared }: { block: string; shared: AttentionInputs },
): Update {
  const { graph, config } = builder;
  const { hiddenSize } = config;
  const product = addProduct(builder, `${block}.attn.c_attn`, input, [hiddenSize, 3 * hiddenSize]);
  const bias = addVector(builder, `${block}.attn.c_attn.bias`, 3 * hiddenSize);
  const projections = splitHeads(builder, graph.node('Add', [product, bias]), {
    keys: newKeysName(layer),
    values: newValuesName(layer),
  });
  addCacheOutputs(builder, layer);
  const mixed = addAttention(builder, layer, projections, shared);
  return {
    value: addProduct(
      builder,
      `${block}.attn.c_proj`,
      mixed,
      [hiddenSize, hiddenSize],
      1 / mixGain(builder),
    ),
    bias: addVector(builder, `${block}.attn.c_proj.bias`, hiddenSize),
  };
}

function addMlp(builder: Builder, block: string, input: Value): Update {
  const { graph, config } = builder;
  const { hiddenSize, intermediateSize } = config;
  const inner = addProduct(builder, `${block}.mlp.c_fc`, input, [hiddenSize, intermediateSize]);
  const innerBias = addVector(builder, `${block}.mlp.c_fc.bias`, intermediateSize);
  const active = graph.node('FastGelu', [inner, innerBias], { domain: MICROSOFT });
  return {
    value: addProduct(builder, `${block}.mlp.c_proj`, active, [intermediateSize, hiddenSize]),
    bias: addVector(builder, `${block}.mlp.c_proj.bias`, hiddenSize),
  };
}

function addVector({ graph, weights }: Builder, name: string, length: number): Value {
  return graph.weight(name, weights.tensor(name, [length]));
}

/** @param dims [numInputs, numOutputs], as GPT-2 stores its weights */
function addProduct(
  builder: Builder,
  name: string,
  input: Value,
  dims: readonly [number, number],
  factor = 1,
): Value {
  const tensor = scale(transpose(builder.weights.tensor(`${name}.weight`, dims)), factor);
  return linear(builder, input, { name: `${name}.weight`, tensor });
}
