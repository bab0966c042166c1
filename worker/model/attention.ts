import type { Builder } from './builder.ts';
import { float, int, ints, MICROSOFT, type Value } from './graph.ts';

/** Inputs that all layers share. */
export interface AttentionInputs {
  readonly writeIndices: Value; // int64 [rows]
  readonly mask: Value; // [rows, 1, group * newTokens, columns]
  readonly partSizes: Value; // int64 [2]: columns of the frozen part and of the tail
}

/** Queries, keys and values of the new tokens of one layer, rotated where the model does that. */
export interface Projections {
  readonly queries: Value; // [rows, numHeads, newTokens, headDim]
  readonly keys: Value; // [rows, numKvHeads, newTokens, headDim]
  readonly values: Value; // [rows, numKvHeads, newTokens, headDim]
}

/** Declares the inputs of `AttentionInputs`; queries that share a head are stacked in the mask. */
export function addAttentionInputs({ graph, config }: Builder): AttentionInputs {
  const { numHeads, numKvHeads } = config;
  const mask = graph.input('mask', 'float32', ['rows', 1, 'newTokens', 'columns']);
  const group = numHeads / numKvHeads;
  return {
    writeIndices: graph.input('writeIndices', 'int64', ['rows']),
    partSizes: graph.input('partSizes', 'int64', [2]),
    mask:
      group === 1
        ? mask
        : graph.node('Concat', Array<Value>(group).fill(mask), { attributes: { axis: int(2) } }),
  };
}

/**
 * Attention in two parts: over the frozen blocks, which nothing ever copies, and over the tail,
 * into which the new keys and values are scattered first.
 *
 * A position's sums come out the same however its tokens were cut into steps, because both parts
 * begin at multiples of the block size and masked columns add exact zeros.
 *
 * @returns [rows, newTokens, numHeads * headDim]
 */
export function addAttention(
  { graph, config }: Builder,
  layer: number,
  { queries, keys, values }: Projections,
  { writeIndices, mask, partSizes }: AttentionInputs,
): Value {
  const { numHeads, numKvHeads, headDim } = config;
  const cacheInput = (part: string, columns: string) =>
    graph.input(`${part}.${layer}`, 'float32', ['rows', numKvHeads, columns, headDim]);
  const frozenKeys = cacheInput('frozenKeys', 'frozen');
  const frozenValues = cacheInput('frozenValues', 'frozen');
  const scatter = (tail: Value, update: Value) =>
    graph.node('TensorScatter', [tail, update, writeIndices]);
  const tailKeys = scatter(cacheInput('tailKeys', 'tail'), keys);
  const tailValues = scatter(cacheInput('tailValues', 'tail'), values);

  const grouped =
    numHeads === numKvHeads
      ? queries
      : graph.node('Reshape', [queries, graph.integers(0, numKvHeads, -1, headDim)]);
  const scoresOf = (partKeys: Value) =>
    graph.node('FusedMatMul', [grouped, partKeys], {
      domain: MICROSOFT,
      attributes: { transB: int(1), alpha: float(1 / Math.sqrt(headDim)) },
    });
  const scores = graph.node('Concat', [scoresOf(frozenKeys), scoresOf(tailKeys)], {
    attributes: { axis: int(3) },
  });
  const probs = graph.node('Softmax', [graph.node('Add', [scores, mask])], {
    attributes: { axis: int(3) },
  });
  const [frozenProbs, tailProbs] = graph.splitInTwo(probs, partSizes, 3);
  const mixed = graph.node('Add', [
    graph.node('MatMul', [frozenProbs, frozenValues]),
    graph.node('MatMul', [tailProbs, tailValues]),
  ]);
  return mergeHeads({ graph, config }, mixed);
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
  return { queries, keys, values: names.values };
}

function mergeHeads({ graph, config }: Pick<Builder, 'graph' | 'config'>, mixed: Value): Value {
  const { numHeads, numKvHeads, headDim } = config;
  const apart =
    numHeads === numKvHeads
      ? mixed
      : graph.node('Reshape', [mixed, graph.integers(0, numHeads, -1, headDim)]);
  const inOrder = graph.node('Transpose', [apart], { attributes: { perm: ints(0, 2, 1, 3) } });
  return graph.node('Reshape', [inOrder, graph.integers(0, 0, -1)]);
}
