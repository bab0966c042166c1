import { describe, expect, it } from 'vitest';
import { inverseFrequencies, RopeTable } from '../../../worker/model/rope.ts';

const plain = { headDim: 4, theta: 100, scaling: { type: 'none' } } as const;

describe('inverseFrequencies', () => {
  it('falls by powers of theta', () => {
    const [first, second] = inverseFrequencies(plain, 7);
    expect(first).toBe(1);
    expect(second).toBeCloseTo(0.1, 15);
  });

  it('depends on the position for dynamic NTK alone, and only beyond the trained length', () => {
    const scaling = { type: 'dynamic', factor: 2, trainedTokens: 10 } as const;
    const at = (position: number) => inverseFrequencies({ ...plain, scaling }, position)[1]!;

    expect(at(9)).toBeCloseTo(0.1, 15);
    // The base of 20 tokens: 100 * (2 * 20 / 10 - 1) ** (4 / 2) = 900.
    expect(at(19)).toBeCloseTo(1 / 30, 15);
  });
});

describe('RopeTable', () => {
  it('gives each token the row of its own position, the second time too', () => {
    const table = new RopeTable(plain);
    for (let time = 0; time < 2; time += 1) {
      const cos = new Float32Array(4);
      const sin = new Float32Array(4);
      table.fill(Int32Array.of(3, 0), cos, sin);

      expect([...cos]).toEqual([Math.cos(3), Math.cos(0.3), 1, 1].map(Math.fround));
      expect([...sin]).toEqual([Math.sin(3), Math.sin(0.3), 0, 0].map(Math.fround));
    }
  });

  it('is exact at positions in the millions', () => {
    const position = 7_654_321;
    const cos = new Float32Array(2);
    const sin = new Float32Array(2);
    new RopeTable(plain).fill(Int32Array.of(position), cos, sin);

    expect([...cos]).toEqual([Math.cos(position), Math.cos(position / 10)].map(Math.fround));
    expect([...sin]).toEqual([Math.sin(position), Math.sin(position / 10)].map(Math.fround));
  });

  it('scales by the attention factor of YaRN', () => {
    const scaling = {
      type: 'yarn',
      factor: 4,
      trainedTokens: 64,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: 1.5,
      isTruncated: true,
    } as const;
    const cos = new Float32Array(2);
    new RopeTable({ ...plain, scaling }).fill(Int32Array.of(0), cos, new Float32Array(2));
    expect([...cos]).toEqual([1.5, 1.5]);
  });
});
