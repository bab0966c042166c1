import { invariant } from '../../shared/assert.ts';

/** What weights of a graph may be stored as. */
export type TensorData = Float32Array | Uint8Array | Int8Array | BigInt64Array;

/**
 * A tensor whose numbers are fetched only while they are written, so that one at a time is held.
 */
export interface LazyTensor<Data extends TensorData = Float32Array> {
  readonly dims: readonly number[];
  readonly load: () => Data;
}

/** Stacks tensors along their first dimension: query, key and value weights into one product. */
export function concatRows(tensors: readonly LazyTensor[]): LazyTensor {
  const inner = tensors[0]?.dims.slice(1) ?? [];
  const numRows = tensors.reduce((sum, { dims }) => sum + (dims[0] ?? 0), 0);
  return {
    dims: [numRows, ...inner],
    load: () => {
      const data = new Float32Array(inner.reduce((product, dim) => product * dim, numRows));
      let offset = 0;
      for (const tensor of tensors) {
        const part = tensor.load();
        data.set(part, offset);
        offset += part.length;
      }
      invariant(offset === data.length, 'concatRows() needs equal inner dimensions');
      return data;
    },
  };
}

/** Swaps the two dimensions of a matrix. */
export function transpose({ dims, load }: LazyTensor): LazyTensor {
  const [numRows = 0, numColumns = 0] = dims;
  return {
    dims: [numColumns, numRows],
    load: () => {
      const source = load();
      const data = new Float32Array(source.length);
      for (let row = 0; row < numRows; row += 1) {
        for (let column = 0; column < numColumns; column += 1) {
          data[column * numRows + row] = source[row * numColumns + column]!;
        }
      }
      return data;
    },
  };
}

/** Multiplies by a constant. Exact when it is a power of two. */
export function scale(tensor: LazyTensor, factor: number): LazyTensor {
  if (factor === 1) return tensor;
  const { dims, load } = tensor;
  return { dims, load: () => load().map((value) => value * factor) };
}
