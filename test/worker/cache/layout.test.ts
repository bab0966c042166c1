import { describe, expect, it } from 'vitest';
import { bytesPerToken, frozenCapacityFor } from '../../../worker/cache/layout.ts';

describe('frozenCapacityFor', () => {
  it.each([
    [0, 64],
    [1, 64],
    [64, 64],
    [65, 128],
    [128, 128],
    [129, 256],
    [4096, 4096],
    [4097, 8192],
  ])('holds %d tokens in %d columns', (numTokens, capacity) => {
    expect(frozenCapacityFor(numTokens)).toBe(capacity);
  });
});

describe('bytesPerToken', () => {
  it('counts keys and values of all layers', () => {
    expect(bytesPerToken({ numLayers: 3, numKvHeads: 2, headDim: 8 })).toBe(3 * 2 * 2 * 8 * 4);
  });
});
