import { describe, expect, it } from 'vitest';
import { quantizeBlocks, quantizeRows } from '../../../worker/model/quantize.ts';
import type { LazyTensor } from '../../../worker/model/tensor.ts';

const NUM_ROWS = 7;

/** Rows of very different magnitudes, one of them zero. */
function matrix(numColumns: number): { tensor: LazyTensor; data: Float32Array } {
  const data = Float32Array.from({ length: NUM_ROWS * numColumns }, (_, i) => {
    const row = Math.floor(i / numColumns);
    return row === 3 ? 0 : Math.sin(i * 12.9898 + 1) * 10 ** (row - 3);
  });
  return { data, tensor: { dims: [NUM_ROWS, numColumns], load: () => data } };
}

describe('quantizeRows', () => {
  it('is within half a step of every weight, with a step per row', () => {
    const { data, tensor } = matrix(45);
    const { numbers, scales } = quantizeRows(tensor, { isTransposed: false });
    const values = numbers.load();
    const steps = scales.load();

    expect(numbers.dims).toEqual([NUM_ROWS, 45]);
    expect(steps).toHaveLength(NUM_ROWS);
    for (const [i, value] of data.entries()) {
      const step = steps[Math.floor(i / 45)]!;
      expect(Math.abs(values[i]! * step - value)).toBeLessThanOrEqual(0.5001 * step);
    }
    for (let row = 0; row < NUM_ROWS; row += 1) {
      const magnitudes = values.slice(row * 45, (row + 1) * 45).map(Math.abs);
      expect(Math.max(...magnitudes)).toBe(row === 3 ? 0 : 127);
    }
  });

  it('turns the matrix around on demand', () => {
    const { tensor } = matrix(45);
    const plain = quantizeRows(tensor, { isTransposed: false }).numbers.load();
    const { numbers, scales } = quantizeRows(tensor, { isTransposed: true });
    const turned = numbers.load();

    expect(numbers.dims).toEqual([45, NUM_ROWS]);
    expect(scales.dims).toEqual([NUM_ROWS]);
    for (const [i, value] of plain.entries()) {
      expect(turned[(i % 45) * NUM_ROWS + Math.floor(i / 45)]).toBe(value);
    }
  });

  it('reads the weights once, whichever part is loaded first', () => {
    const { data, tensor } = matrix(45);
    let numReads = 0;
    const load = () => {
      numReads += 1;
      return data;
    };
    const { numbers, scales } = quantizeRows({ ...tensor, load }, { isTransposed: false });

    numbers.load();
    scales.load();
    expect(numReads).toBe(1);
    const other = quantizeRows(tensor, { isTransposed: false });
    expect(other.scales.load()).toEqual(scales.load());
  });
});

describe('quantizeBlocks', () => {
  /** The weights that a runtime would multiply with, padding included. */
  function read(tensor: LazyTensor, bits: 4 | 8): number[] {
    const { numbers, scales } = quantizeBlocks(tensor, bits);
    const bytes = [...numbers.load()];
    const steps = scales.load();
    const raw =
      bits === 8
        ? bytes.map((byte) => byte - 128)
        : bytes.flatMap((byte) => [(byte & 15) - 8, (byte >> 4) - 8]);
    return raw.map((value, i) => value * steps[Math.floor(i / 32)]!);
  }

  it.each([32, 64, 45, 7])('is close to a matrix of %i columns and pads it with zeros', (width) => {
    const { data, tensor } = matrix(width);
    const padded = Math.ceil(width / 32) * 32;

    for (const [bits, tolerance] of [
      [8, 0.5 / 127],
      [4, 0.5 / 6], // the divisor of least magnitude, and rounding
    ] as const) {
      const values = read(tensor, bits);
      expect(values).toHaveLength(NUM_ROWS * padded);
      for (const [i, value] of values.entries()) {
        const row = Math.floor(i / padded);
        const column = i % padded;
        const expected = column < width ? data[row * width + column]! : 0;
        const start = row * width + column - (column % 32);
        const end = Math.min(start + 32, (row + 1) * width);
        const greatest = Math.max(0, ...data.slice(start, end).map(Math.abs));
        const isCut = bits === 4 && Math.abs(expected) > 0.85 * greatest;
        if (!isCut)
          expect(Math.abs(value - expected)).toBeLessThanOrEqual(1.1 * tolerance * greatest);
      }
    }
  });

  it('loses less with the scale of least squares than with the greatest magnitude at -8', () => {
    const { data, tensor } = matrix(64);
    const squares = (values: readonly number[]) =>
      values.reduce((sum, value, i) => sum + (value - data[i]!) ** 2, 0);
    const plain = Array.from({ length: data.length / 32 }, (_, block) => {
      const part = data.slice(block * 32, (block + 1) * 32);
      const extreme = part.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
      const scale = extreme / -8 || 1;
      return [...part].map((value) => Math.min(7, Math.round(value / scale)) * scale);
    });

    expect(squares(read(tensor, 4))).toBeLessThan(0.9 * squares(plain.flat()));
  });
});
