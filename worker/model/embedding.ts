import type { Builder } from './builder.ts';
import { int, type Value } from './graph.ts';
import type { LinearWeight } from './linear.ts';
import { quantizeRows } from './quantize.ts';

const FLOAT32 = 1; // of ONNX's element types

/**
 * Rows of a table of embeddings. In formats of fewer bits the table is int8 with a scale per row,
 * which is fine enough even where weights have four bits; WebGPU gathers no int8.
 *
 * @param tokenIds int32 [rows, newTokens]
 * @returns [rows, newTokens, hiddenSize]
 */
export function embed(
  { graph, weightFormat, executionProvider }: Builder,
  tokenIds: Value,
  { name, tensor }: LinearWeight,
): Value {
  if (weightFormat === 'fp32' || executionProvider === 'webgpu') {
    return graph.node('Gather', [graph.weight(name, tensor), tokenIds]);
  }
  const { numbers, scales } = quantizeRows(tensor, { isTransposed: false });
  const table = graph.storedWeight(`${name}.rows`, 'int8', numbers);
  const column = { dims: [...scales.dims, 1], load: scales.load };
  const scaleTable = graph.weight(`${name}.rows.scales`, column);
  const attributes = { to: int(FLOAT32) };
  const rows = graph.node('Cast', [graph.node('Gather', [table, tokenIds])], { attributes });
  return graph.node('Mul', [rows, graph.node('Gather', [scaleTable, tokenIds])]);
}
