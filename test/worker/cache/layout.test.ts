import { describe, expect, it } from 'vitest';
import {
  bytesPerToken,
  contextWithin,
  frozenCapacityFor,
  rowBytes,
} from '../../../worker/cache/layout.ts';

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

  it('holds no more than the greatest capacity', () => {
    expect([64, 129, 300].map((numTokens) => frozenCapacityFor(numTokens, 320))).toEqual([
      64, 256, 320,
    ]);
  });
});

describe('contextWithin', () => {
  const shape = { numLayers: 1, numKvHeads: 1, headDim: 1 };

  it.each([
    [320, 300],
    [319, 256],
    [256, 256],
    [255, 128],
    [64, 64],
    [63, 0],
  ])('is what a row with %d columns can hold of 300 tokens: %d', (numColumns, expected) => {
    expect(contextWithin(shape, rowBytes(shape, numColumns), 300)).toBe(expected);
  });
});

describe('bytesPerToken', () => {
  it('counts keys and values of all layers', () => {
    expect(bytesPerToken({ numLayers: 3, numKvHeads: 2, headDim: 8 })).toBe(3 * 2 * 2 * 8 * 4);
  });
});
