import { describe, expect, it } from 'vitest';
import { movesOf, NewColumns } from '../../../worker/cache/new-columns.ts';

/** One layer's keys or values: two rows of two heads with three tokens each, numbered from 1. */
function columnsOf(headDim: number): Float32Array {
  return Float32Array.from({ length: 2 * 2 * 3 * headDim }, (_, i) => i + 1);
}

/** @param at the row, head and token whose last number is `value` */
function withNumber(value: number, headDim: number, at: readonly [number, number, number]) {
  const [row, head, token] = at;
  const newValues = columnsOf(headDim);
  newValues[((row * 2 + head) * 3 + token + 1) * headDim - 1] = value;
  const output = { newKeys: [columnsOf(headDim)], newValues: [newValues] };
  return new NewColumns({ numLayers: 1, numKvHeads: 2, headDim }, output, 3);
}

describe.each([1, 2, 3, 4])('new columns, %i wide', (headDim) => {
  it.each([NaN, Infinity, -Infinity])('are not finite where there is %d', (value) => {
    for (const [row, head, token] of [
      [0, 0, 0],
      [0, 1, 2],
      [1, 0, 1],
      [1, 1, 2],
    ] as const) {
      const columns = withNumber(value, headDim, [row, head, token]);
      expect([0, 1, 2, 3].map((count) => columns.areFinite(row, count))).toEqual(
        [0, 1, 2, 3].map((count) => count <= token),
      );
      expect(columns.areFinite(1 - row, 3)).toBe(true);
    }
  });

  it('have the bits of their numbers when they are moved', () => {
    const shape = { numLayers: 1, numKvHeads: 2, headDim };
    const bits = Uint32Array.from({ length: 12 * headDim }, (_, i) => (i * 0x9e3779b1) >>> 0);
    for (const [i, each] of bits.entries()) {
      if ((each & 0x7f800000) === 0x7f800000) bits[i] = each & 0xff7fffff; // a finite one
    }
    const target = new Float32Array(bits.length);
    const moves = movesOf(target, shape);
    for (const [i, move] of movesOf(new Float32Array(bits.buffer), shape).entries()) {
      moves[i] = move;
    }
    expect(new Uint32Array(target.buffer)).toEqual(bits);
  });
});
