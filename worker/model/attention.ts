import type { Builder } from './builder.ts';
import type { ModelConfig } from './config.ts';
import { float, type Graph, int, ints, MICROSOFT, type Value } from './graph.ts';

/** Inputs that all layers share. */
export interface AttentionInputs {
  /** Where new keys and values go: int64 [rows], on WebGPU [rows, numKvHeads, newTokens, 3]. */
  readonly writeIndices: Value;
  readonly mask: Value; // [rows, 1, group * newTokens, columns]
  /**
   * int64 [numParts]: columns of the sinks, where the graph has them, of the frozen part and of the
   * tail.
   */
  readonly partSizes: Value;
}

/** Queries, keys and values of the new tokens of one layer, rotated where the model does that. */
export interface Projections {
  readonly queries: Value; // [rows, numHeads, newTokens, headDim]
  /** The queries as the sinks see them; `null` where the graph has no sinks. */
  readonly sinkQueries: Value | null;
  readonly keys: Value; // [rows, numKvHeads, newTokens, headDim]
  readonly values: Value; // [rows, numKvHeads, newTokens, headDim]
}

/**
 * What `addAttention` multiplies its result by; the output weights are divided by it. On the CPU 2:
 * both are exact, and keep the runtime from its kernel for a single row of factor 1, which sums in
 * another order than the one for several rows.
 */
export function mixGain({ executionProvider }: Builder): number {
  return executionProvider === 'cpu' ? 2 : 1;
}

/**
 * Parts that the queries sharing a key-value head are cut into, and threads to run with, so that
 * there are at least as many products as threads. A product that is cut among threads sums in
 * another order, which would depend on how many rows are computed beside it.
 *
 * With one key-value head the runtime puts the parts together again, hence a single thread.
 */
export function planThreads({ numHeads, numKvHeads }: ModelConfig, numThreads: number) {
  if (numKvHeads === 1) return { groupParts: 1, numThreads: 1 };
  const group = numHeads / numKvHeads;
  const wanted = Math.min(numThreads, numHeads);
  let groupParts = 1;
  while (group % groupParts !== 0 || numKvHeads * groupParts < wanted) groupParts += 1;
  return { groupParts, numThreads: wanted };
}

/** Declares the inputs of `AttentionInputs`; queries that share a head are stacked in the mask. */
export function addAttentionInputs(builder: Builder): AttentionInputs {
  const { graph, config, groupParts, executionProvider, hasSinks } = builder;
  const numStacked = config.numHeads / config.numKvHeads / groupParts;
  const places = executionProvider === 'cpu' ? [] : [config.numKvHeads, 'newTokens', 3];
  const mask = graph.input('mask', 'float32', [
    'rows',
    ...ones(groupParts),
    'newTokens',
    'columns',
  ]);
  return {
    writeIndices: graph.input('writeIndices', 'int64', ['rows', ...places]),
    partSizes: graph.input('partSizes', 'int64', [hasSinks ? 3 : 2]),
    mask: numStacked === 1 ? mask : concat(graph, Array<Value>(numStacked).fill(mask), -2),
  };
}

/** Dimensions of size 1 between rows and tokens of the mask, one more where groups are cut. */
export function ones(groupParts: number): number[] {
  return groupParts === 1 ? [1] : [1, 1];
}

function concat(graph: Graph, values: readonly Value[], axis: number): Value {
  return graph.node('Concat', values, { attributes: { axis: int(axis) } });
}

/**
 * Attention in two parts: over the frozen blocks, which nothing ever copies, and over the tail,
 * into which the new keys and values are scattered first. A graph with sinks has a part for them
 * before these, which is seen from the places of the tokens and not from their positions.
 *
 * A position's sums come out the same however its tokens were cut into steps, because the parts
 * begin at multiples of the block size and masked columns add exact zeros. For the same reason a
 * token that sees no sinks has the same bits in a graph with sinks as in one without.
 *
 * @returns [rows, newTokens, numHeads * headDim], times `mixGain`
 */
export function addAttention(
  builder: Builder,
  layer: number,
  { queries, sinkQueries, keys, values }: Projections,
  { writeIndices, mask, partSizes }: AttentionInputs,
): Value {
  const { graph } = builder;
  const grouped = groupQueries(builder, queries);
  const frozen = addFrozenInputs(builder, layer, 'frozen');
  const tail = addTail(builder, layer, { keys, values, writeIndices });
  const parts = [
    { queries: grouped, ...frozen },
    { queries: grouped, ...tail },
  ];
  if (sinkQueries !== null) {
    const sinks = addFrozenInputs(builder, layer, 'sink');
    parts.unshift({ queries: groupQueries(builder, sinkQueries), ...sinks });
  }

  const scores = parts.map((part) => addScores(builder, part.queries, part.keys));
  const probs = graph.node('Softmax', [graph.node('Add', [concat(graph, scores, -1), mask])]);
  const split = { sizes: partSizes, axis: -1, count: parts.length };
  const mixed = graph
    .split(probs, split)
    .map((partProbs, i) => addMix(builder, partProbs, parts[i]!.values))
    .reduce((sum, part) => graph.node('Add', [sum, part]));
  return mergeHeads(builder, mixed);
}

interface KeysAndValues {
  readonly keys: Value;
  readonly values: Value;
}

/**
 * [rows, numKvHeads, frozen or sink, headDim], with a 1 before the columns where groups are cut.
 */
function addFrozenInputs(
  { graph, config, groupParts }: Builder,
  layer: number,
  part: 'frozen' | 'sink',
): KeysAndValues {
  const { numKvHeads, headDim } = config;
  const dims = ['rows', numKvHeads, ...ones(groupParts).slice(1), part, headDim];
  return {
    keys: graph.input(`${part}Keys.${layer}`, 'float32', dims),
    values: graph.input(`${part}Values.${layer}`, 'float32', dims),
  };
}

/** The tail with the new keys and values in their places. */
function addTail(
  { graph, config, groupParts, executionProvider }: Builder,
  layer: number,
  { keys, values, writeIndices }: KeysAndValues & { readonly writeIndices: Value },
): KeysAndValues {
  const { numKvHeads, headDim } = config;
  const fill = (name: string, update: Value) => {
    const tail = graph.input(`${name}.${layer}`, 'float32', ['rows', numKvHeads, 'tail', headDim]);
    if (executionProvider === 'webgpu')
      return graph.node('ScatterND', [tail, writeIndices, update]);
    const filled = graph.node('TensorScatter', [tail, update, writeIndices]);
    if (groupParts === 1) return filled;
    return graph.node('Reshape', [filled, graph.integers(0, 0, 1, -1, headDim)]);
  };
  return { keys: fill('tailKeys', keys), values: fill('tailValues', values) };
}

/** Scaled products of queries and keys. WebGPU has no product with a transposed operand. */
function addScores(
  { graph, config, executionProvider }: Builder,
  queries: Value,
  keys: Value,
): Value {
  if (executionProvider === 'webgpu') {
    const transposed = graph.node('Transpose', [keys], {
      attributes: { perm: ints(0, 1, 3, 2) },
    });
    return graph.node('MatMul', [queries, transposed]);
  }
  return graph.node('FusedMatMul', [queries, keys], {
    domain: MICROSOFT,
    attributes: { transB: int(1), alpha: float(1 / Math.sqrt(config.headDim)) },
  });
}

function addMix(builder: Builder, probs: Value, values: Value): Value {
  if (builder.executionProvider === 'webgpu') return builder.graph.node('MatMul', [probs, values]);
  return builder.graph.node('FusedMatMul', [probs, values], {
    domain: MICROSOFT,
    attributes: { alpha: float(mixGain(builder)) },
  });
}

/** Stacks queries that share a key-value head: [rows, numKvHeads, group * newTokens, headDim]. */
function groupQueries(builder: Builder, queries: Value): Value {
  const { graph, config, groupParts, executionProvider } = builder;
  const { numHeads, numKvHeads, headDim } = config;
  const scaled = executionProvider === 'cpu' ? queries : addScale(builder, queries);
  if (numHeads === numKvHeads) return scaled;
  const parts = groupParts === 1 ? [] : [groupParts];
  return graph.node('Reshape', [scaled, graph.integers(0, numKvHeads, ...parts, -1, headDim)]);
}

/** Divides by sqrt(headDim), where the product with the keys cannot. */
function addScale({ graph, config }: Builder, queries: Value): Value {
  const load = () => Float32Array.of(1 / Math.sqrt(config.headDim));
  return graph.node('Mul', [queries, graph.weight('scoreScale', { dims: [1], load })]);
}

/** Names of a layer's outputs. */
export const newKeysName = (layer: number) => `newKeys.${layer}`;
export const newValuesName = (layer: number) => `newValues.${layer}`;

/** Lets the new keys and values of a layer leave the graph, for the host to append. */
export function addCacheOutputs({ graph, config }: Builder, layer: number): void {
  const dims = ['rows', config.numKvHeads, 'newTokens', config.headDim];
  graph.output(newKeysName(layer), 'float32', dims);
  graph.output(newValuesName(layer), 'float32', dims);
}

/** Cuts the product of the fused weights into heads: queries, then keys, then values. */
export function splitHeads(
  { graph, config: { numHeads, numKvHeads, headDim } }: Builder,
  fused: Value, // [rows, newTokens, (numHeads + 2 * numKvHeads) * headDim]
  names: { readonly queries?: Value; readonly keys?: Value; readonly values: Value },
): Projections {
  const shape = graph.integers(0, 0, numHeads + 2 * numKvHeads, headDim);
  const heads = graph.node('Transpose', [graph.node('Reshape', [fused, shape])], {
    attributes: { perm: ints(0, 2, 1, 3) },
  });
  const queries = names.queries ?? graph.newValue('queries');
  const keys = names.keys ?? graph.newValue('keys');
  const sizes = graph.integers(numHeads, numKvHeads, numKvHeads);
  graph.nodeWithOutputs('Split', [heads, sizes], [queries, keys, names.values], {
    attributes: { axis: int(1) },
  });
  return { queries, sinkQueries: null, keys, values: names.values };
}

function mergeHeads({ graph, config }: Builder, mixed: Value): Value {
  const { numHeads, numKvHeads, headDim } = config;
  const apart =
    numHeads === numKvHeads
      ? mixed
      : graph.node('Reshape', [mixed, graph.integers(0, numHeads, -1, headDim)]);
  const inOrder = graph.node('Transpose', [apart], { attributes: { perm: ints(0, 2, 1, 3) } });
  return graph.node('Reshape', [inOrder, graph.integers(0, 0, -1)]);
}
