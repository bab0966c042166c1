import { describe, expect, it } from 'vitest';
import { concatRows, scale, transpose } from '../../../worker/model/tensor.ts';

const matrix = { dims: [2, 3], load: () => Float32Array.of(1, 2, 3, 4, 5, 6) };
const row = { dims: [1, 3], load: () => Float32Array.of(7, 8, 9) };

describe('tensors', () => {
  it('are stacked along their first dimension', () => {
    const { dims, load } = concatRows([matrix, row]);
    expect(dims).toEqual([3, 3]);
    expect([...load()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('are transposed', () => {
    const { dims, load } = transpose(matrix);
    expect(dims).toEqual([3, 2]);
    expect([...load()]).toEqual([1, 4, 2, 5, 3, 6]);
  });

  it('are scaled', () => {
    expect([...scale(row, 0.5).load()]).toEqual([3.5, 4, 4.5]);
  });
});
