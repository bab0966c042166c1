import type { Builder } from './builder.ts';
import { int, MICROSOFT, type Value } from './graph.ts';
import { BLOCK_LENGTH, quantizeBlocks, quantizeRows } from './quantize.ts';
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
  builder: Builder,
  input: Value,
  weight: LinearWeight,
  output = builder.graph.newValue('linear'),
): Value {
  switch (builder.weightFormat) {
    case 'fp32':
      return addFloatProduct(builder, input, weight, output);
    case 'int8':
      return addRowProduct(builder, input, weight, output);
    case 'q8':
      return addBlockProduct(builder, input, { ...weight, bits: 8 }, output);
    case 'q4':
      return addBlockProduct(builder, input, { ...weight, bits: 4 }, output);
  }
}

function addFloatProduct(
  { graph, executionProvider }: Builder,
  input: Value,
  { name, tensor }: LinearWeight,
  output: Value,
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

/**
 * Int8 weights with a scale per output, times activations with a scale per token: a scale of all
 * rows would let a token's neighbors change it. Whole numbers are summed exactly, in any order.
 *
 * Activations are uint8 around 128, since the runtime is ten times slower with int8. Each row is
 * divided by its greatest magnitude first, so that one constant scale does for all. A row of zeros
 * divides by zero: whatever comes of it is multiplied by that zero in the end.
 */
function addRowProduct(
  { graph }: Builder,
  input: Value,
  { name, tensor }: LinearWeight,
  output: Value,
): Value {
  const { numbers, scales } = quantizeRows(tensor, { isTransposed: true });
  const unit = graph.weight('activationUnit', {
    dims: [],
    load: () => Float32Array.of(1 / 127),
  });
  const middle = graph.storedWeight('activationMiddle', 'uint8', {
    dims: [],
    load: () => Uint8Array.of(128),
  });
  const magnitudes = graph.node('Abs', [input]);
  const max = graph.node('ReduceMax', [magnitudes, graph.integers(-1)]); // keeps the dimension
  const fractions = graph.node('Div', [input, max]);
  const activations = graph.node('QuantizeLinear', [fractions, unit, middle]);
  const weight = graph.storedWeight(`${name}.int8`, 'int8', numbers);
  const weightScales = graph.weight(`${name}.int8.scales`, scales);
  const product = graph.node(
    'MatMulIntegerToFloat',
    [activations, weight, unit, weightScales, middle],
    { domain: MICROSOFT },
  );
  return graph.node('Mul', [product, max], { name: output });
}

/** Blocks of weights with a scale each; activations become int8 by blocks within the operator. */
function addBlockProduct(
  { graph }: Builder,
  input: Value,
  { name, tensor, bits }: LinearWeight & { readonly bits: 4 | 8 },
  output: Value,
): Value {
  const [numOutputs = 0, numInputs = 0] = tensor.dims;
  const { numbers, scales } = quantizeBlocks(tensor, bits);
  const weight = graph.storedWeight(`${name}.q${bits}`, 'uint8', numbers);
  const weightScales = graph.weight(`${name}.q${bits}.scales`, scales);
  return graph.node('MatMulNBits', [input, weight, weightScales], {
    domain: MICROSOFT,
    attributes: {
      K: int(numInputs),
      N: int(numOutputs),
      bits: int(bits),
      block_size: int(BLOCK_LENGTH),
      accuracy_level: int(4), // int8 products; lower levels are many times slower
    },
    name: output,
  });
}
