import { describe, expect, it } from 'vitest';
import { logSumExp, topLogprobs } from '../../../worker/sampling/logprobs.ts';
import { plainOrder, plainProbabilities } from '../../support/plain-sampling.ts';
import { integerFrom, randomLogits, seededRng } from '../../support/random.ts';

describe('logSumExp', () => {
  it('is ln 6 for the logarithms of 1, 2 and 3', () => {
    const logits = Float32Array.of(0, Math.log(2), Math.log(3));
    expect(logSumExp(logits)).toBeCloseTo(Math.log(6), 6); // float32 logits
  });

  it('neither overflows nor underflows', () => {
    expect(logSumExp(Float32Array.of(5000, 5000))).toBeCloseTo(5000 + Math.LN2, 9);
    expect(logSumExp(Float32Array.of(-5000, -Infinity))).toBe(-5000);
  });
});

describe('topLogprobs', () => {
  it('puts the first of equal tokens first', () => {
    const top = topLogprobs(Float32Array.of(0, 1, 1, 0), 3).map(({ tokenId }) => tokenId);
    expect(top).toEqual([1, 2, 0]);
  });

  it('has none for 0 and all of them for more than there are', () => {
    expect(topLogprobs(Float32Array.of(1, 2), 0)).toEqual([]);
    expect(topLogprobs(Float32Array.of(1, 2), 5)).toHaveLength(2);
  });

  it('is the beginning of all tokens sorted, with the logarithms of their probabilities', () => {
    const rng = seededRng(4);
    for (let trial = 0; trial < 500; trial += 1) {
      const logits = randomLogits(rng, integerFrom(rng, 1, 60));
      const k = integerFrom(rng, 0, 22);
      const probabilities = plainProbabilities(logits, 1);

      const top = topLogprobs(logits, k);

      expect(top.map(({ tokenId }) => tokenId)).toEqual(plainOrder(logits).slice(0, k));
      for (const { tokenId, logprob } of top) {
        if (probabilities[tokenId]! < 1e-300) continue;
        expect(logprob).toBeCloseTo(Math.log(probabilities[tokenId]!), 9);
      }
    }
  });
});
