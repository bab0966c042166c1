import { describe, expect, it } from 'vitest';
import { expNegative } from '../../../worker/sampling/exp.ts';

describe('expNegative', () => {
  it('is exp(-depth) to a relative 3e-10', () => {
    for (let i = 0; i < 200_000; i += 1) {
      const depth = i / 4_999; // to 40, and never on a table entry but 0
      const exact = Math.exp(-depth);
      if (!(Math.abs(expNegative(depth) - exact) <= 3e-10 * exact)) expect.fail(`exp(-${depth})`);
    }
  });

  it('is exact where the table has an entry', () => {
    expect(expNegative(0)).toBe(1);
    expect(expNegative(3.5)).toBe(Math.exp(-3.5));
  });

  it('is 0 for a token that was filtered out', () => {
    expect(expNegative(Infinity)).toBe(0);
  });
});
