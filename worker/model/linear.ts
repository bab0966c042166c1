import type { Builder } from './builder.ts';
import { int, MICROSOFT, type Value } from './graph.ts';
import { type LazyTensor, transpose } from './tensor.ts';

export interface LinearWeight {
  readonly name: string;
  readonly tensor: LazyTensor; // [numOutputs, numInputs]
}

/**
 * The product of `input` and a weight matrix. The one place where a weight format becomes nodes.
 *
 * A constant matrix is packed when the session starts, and the packed product sums each row by
 * itself, in an order that depends on neither the number of rows nor that of threads.
 *
 * @param input [..., numInputs]
 * @param output name of the result, for one that leaves the graph
 * @returns [..., numOutputs]
 */
export function linear(
  { graph, executionProvider }: Builder,
  input: Value,
  { name, tensor }: LinearWeight,
  output = graph.newValue('linear'),
): Value {
  if (executionProvider === 'webgpu') {
    const weight = graph.weight(`${name}.transposed`, transpose(tensor));
    return graph.node('MatMul', [input, weight], { name: output });
  }
  return graph.node('FusedMatMul', [input, graph.weight(name, tensor)], {
    domain: MICROSOFT,
    attributes: { transB: int(1) },
    name: output,
  });
}
