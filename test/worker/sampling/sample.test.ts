import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { argmax, sample } from '../../../worker/sampling/sample.ts';
import { plainProbabilities, plainSample } from '../../support/plain-sampling.ts';
import { integerFrom, pickFrom, randomLogits, seededRng } from '../../support/random.ts';

describe('argmax', () => {
  it('takes the first of the greatest', () => {
    expect(argmax(Float32Array.of(1, 3, 3, 2))).toBe(1);
    expect(argmax(Float32Array.of(-Infinity, -7))).toBe(1);
  });

  it('refuses logits of which none is left', () => {
    expect(() => argmax(Float32Array.of(-Infinity, -Infinity))).toThrow(InvariantError);
  });
});

describe('sample', () => {
  it('takes the first greatest logit at temperature 0', () => {
    expect(sample(Float32Array.of(1, 3, 3, 2), 0, { seed: 1, position: 0 })).toBe(1);
  });

  it.each([0.3, 0.5, 1, 2])('draws in proportion to softmax(logits / %d)', (temperature) => {
    const logits = Float32Array.of(0, 1, 2, -1, 2);
    const probabilities = plainProbabilities(logits, temperature);
    const numTrials = 100_000;

    const counts = [0, 0, 0, 0, 0];
    for (let position = 0; position < numTrials; position += 1) {
      counts[sample(logits, temperature, { seed: 42, position })]! += 1;
    }

    for (const [tokenId, count] of counts.entries()) {
      const expected = probabilities[tokenId]!;
      const sigma = Math.sqrt((expected * (1 - expected)) / numTrials);
      expect(Math.abs(count / numTrials - expected)).toBeLessThan(4 * sigma);
    }
  });

  it('gives what working out the noise of every token gives', () => {
    const rng = seededRng(5);
    for (let trial = 0; trial < 3_000; trial += 1) {
      const logits = randomLogits(rng, integerFrom(rng, 1, 120));
      const temperature = pickFrom(rng, [0, 0.01, 0.3, 0.8, 1, 1.7, 30]);
      const key = { seed: integerFrom(rng, 0, 2 ** 32), position: trial };

      expect(sample(logits, temperature, key)).toBe(plainSample(logits, temperature, key));
    }
  });

  it('gives the same for a vocabulary of usual size, flat or steep', () => {
    const rng = seededRng(6);
    for (let trial = 0; trial < 30; trial += 1) {
      const spread = pickFrom(rng, [0, 0.1, 3, 10]);
      const logits = Float32Array.from({ length: 8_000 }, () => (rng() - 0.5) * spread);
      const key = { seed: trial, position: trial };

      expect(sample(logits, 1, key)).toBe(plainSample(logits, 1, key));
    }
  });

  it.each([1e-3, 1e-30, 1e-300, 5e-324])('takes the greatest at temperature %d', (temperature) => {
    for (const shift of [0, 10, -10]) {
      const logits = Float32Array.of(-1, 2, 5, 4, -Infinity).map((logit) => logit + shift);
      expect(sample(logits, temperature, { seed: 1, position: 0 })).toBe(2);
    }
  });

  it('never draws a token that was filtered out', () => {
    const logits = Float32Array.of(-Infinity, 0, -Infinity, 0, -Infinity);
    for (let position = 0; position < 1_000; position += 1) {
      expect([1, 3]).toContain(sample(logits, 1.7, { seed: 3, position }));
    }
  });

  it('leaves the logits as they are', () => {
    const logits = randomLogits(seededRng(8), 50);
    const before = Float32Array.from(logits);
    sample(logits, 0.7, { seed: 1, position: 1 });
    expect(logits).toEqual(before);
  });
});
