import { describe, expect, it } from 'vitest';
import {
  applyBias,
  applyPenalties,
  keepMinP,
  keepTopK,
  keepTopP,
} from '../../../worker/sampling/filters.ts';
import { TokenHistory } from '../../../worker/sampling/history.ts';
import {
  PLAIN_PARAMS,
  plainMinP,
  plainNucleusSize,
  plainPenalties,
  plainTopK,
  plainTopP,
} from '../../support/plain-sampling.ts';
import { integerFrom, pickFrom, type Rng, randomLogits, seededRng } from '../../support/random.ts';

/** What a filter leaves of the logits. */
function filtered(logits: ArrayLike<number>, filter: (logits: Float32Array) => void): number[] {
  const kept = Float32Array.from(logits);
  filter(kept);
  return [...kept];
}

/** Runs a check against many random logits. */
function overRandomLogits(seed: number, check: (logits: number[], rng: Rng) => void): void {
  const rng = seededRng(seed);
  for (let trial = 0; trial < 1_500; trial += 1) {
    check([...randomLogits(rng, integerFrom(rng, 1, 100))], rng);
  }
}

const temperatures = [0.05, 0.3, 1, 1.7, 5];

describe('keepTopK', () => {
  it('keeps the first of equal logits', () => {
    expect(filtered([2, 3, 2, 2, 1], (logits) => keepTopK(logits, 2))).toEqual([
      2,
      3,
      -Infinity,
      -Infinity,
      -Infinity,
    ]);
  });

  it('keeps all for 0 and for more than there are', () => {
    expect(filtered([1, 2], (logits) => keepTopK(logits, 0))).toEqual([1, 2]);
    expect(filtered([1, 2], (logits) => keepTopK(logits, 2))).toEqual([1, 2]);
    expect(filtered([1, 2], (logits) => keepTopK(logits, 9))).toEqual([1, 2]);
  });

  it('tells no zero from the other', () => {
    expect(filtered([-0, 0, 0], (logits) => keepTopK(logits, 1))).toEqual([
      -0,
      -Infinity,
      -Infinity,
    ]);
  });

  it('keeps what sorting all logits keeps', () => {
    overRandomLogits(1, (logits, rng) => {
      const k = integerFrom(rng, 0, logits.length + 3);
      expect(filtered(logits, (kept) => keepTopK(kept, k))).toEqual(plainTopK(logits, k));
    });
  });
});

describe('keepTopP', () => {
  it('keeps the likeliest until their mass reaches p', () => {
    const logits = [0.1, 0.4, 0.2, 0.3].map(Math.log);
    const isKept = (p: number) =>
      filtered(logits, (kept) => keepTopP(kept, p, 1)).map((logit) => logit !== -Infinity);

    expect(isKept(0.39)).toEqual([false, true, false, false]);
    expect(isKept(0.41)).toEqual([false, true, false, true]);
    expect(isKept(0.71)).toEqual([false, true, true, true]);
    expect(isKept(0.91)).toEqual([true, true, true, true]);
  });

  it.each([1e-9, 1e-310, 5e-324])('keeps the greatest for p = %d', (p) => {
    expect(filtered([1, 2, 2], (logits) => keepTopP(logits, p, 1))[1]).toBe(2);
  });

  it.each([1e-3, 1e-300, 5e-324])('keeps the greatest at temperature %d', (temperature) => {
    const kept = filtered([1, 7, 2], (logits) => keepTopP(logits, 0.9, temperature));
    expect(kept).toEqual([-Infinity, 7, -Infinity]);
  });

  it('keeps all for 1', () => {
    expect(filtered([0, -80], (logits) => keepTopP(logits, 1, 1))).toEqual([0, -80]);
  });

  it('keeps what sorting all logits keeps', () => {
    let numChecked = 0;
    overRandomLogits(2, (logits, rng) => {
      const p = pickFrom(rng, [0.01, 0.5, 0.8, 0.95, 0.999, 0.999999, rng()]);
      const temperature = pickFrom(rng, temperatures);
      if (!plainNucleusSize(logits, p, temperature).isClear) return;
      numChecked += 1;

      const kept = filtered(logits, (each) => keepTopP(each, p, temperature));
      expect(kept).toEqual(plainTopP(logits, p, temperature));
    });
    expect(numChecked).toBeGreaterThan(1_000);
  });

  it('keeps what sorting keeps where masses lie deep under the greatest', () => {
    // one token, and then twenty thousand of 1.3e-14 each
    const logits = [0, ...Array<number>(20_000).fill(-32)];
    const kept = filtered(logits, (each) => keepTopP(each, 1 - 1e-10, 1));
    const { size } = plainNucleusSize(logits, 1 - 1e-10, 1);
    expect(kept.filter((logit) => logit !== -Infinity).length / size).toBeCloseTo(1, 2);
  });
});

describe('keepMinP', () => {
  it('keeps tokens at least so many times as likely as the likeliest', () => {
    const logits = [0.5, 0.3, 0.1, 0.1].map(Math.log);
    const kept = filtered(logits, (each) => keepMinP(each, 0.5, 1));
    expect(kept.map((logit) => logit !== -Infinity)).toEqual([true, true, false, false]);
  });

  it('keeps all the greatest for 1, and all for 0', () => {
    expect(filtered([1, 2, 2], (logits) => keepMinP(logits, 1, 1.3))).toEqual([-Infinity, 2, 2]);
    expect(filtered([1, -99], (logits) => keepMinP(logits, 0, 1))).toEqual([1, -99]);
  });

  it('keeps what comparing probabilities keeps', () => {
    overRandomLogits(3, (logits, rng) => {
      const minP = pickFrom(rng, [0.0123, 0.1234, 0.5678, 0.9]);
      const temperature = pickFrom(rng, temperatures);
      const kept = filtered(logits, (each) => keepMinP(each, minP, temperature));
      expect(kept).toEqual(plainMinP(logits, minP, temperature));
    });
  });
});

describe('applyPenalties', () => {
  it('divides positive and multiplies negative logits of seen tokens', () => {
    const history = new TokenHistory([0, 1]);
    history.add(1);
    history.add(2);
    const params = { ...PLAIN_PARAMS, repetitionPenalty: 2 };
    expect(filtered([4, -4, 0, 4], (logits) => applyPenalties(logits, history, params))).toEqual([
      2, -8, 0, 4,
    ]);
  });

  it('subtracts presence once and frequency per time, for output tokens only', () => {
    const history = new TokenHistory([0]);
    for (const tokenId of [1, 2, 2, 2]) history.add(tokenId);
    const params = { ...PLAIN_PARAMS, presencePenalty: 0.5, frequencyPenalty: 1 };
    expect(filtered([9, 9, 9, 9], (logits) => applyPenalties(logits, history, params))).toEqual([
      9, 7.5, 5.5, 9,
    ]);
  });

  it('does what the plain formula does', () => {
    overRandomLogits(4, (logits, rng) => {
      const someTokens = () =>
        Array.from({ length: 8 }, () => integerFrom(rng, 0, logits.length + 1));
      const [promptTokenIds, outputTokenIds] = [someTokens(), someTokens()];
      const history = new TokenHistory(promptTokenIds);
      for (const tokenId of outputTokenIds) history.add(tokenId);
      const params = {
        ...PLAIN_PARAMS,
        presencePenalty: pickFrom(rng, [0, 0.5, -2]),
        frequencyPenalty: pickFrom(rng, [0, 0.25, -1]),
        repetitionPenalty: pickFrom(rng, [1, 1.25, 0.5]),
      };

      const penalized = filtered(logits, (each) => applyPenalties(each, history, params));

      const expected = plainPenalties(logits, { promptTokenIds, outputTokenIds }, params);
      for (const [tokenId, logit] of expected.entries()) {
        // float32 after each of two operations
        const tolerance = 1e-6 * (2 + Math.abs(logit) + Math.abs(logits[tokenId]!));
        const isNear = Math.abs(penalized[tokenId]! - logit) <= tolerance;
        if (isNear || penalized[tokenId] === logit) continue;
        expect.fail(`${penalized[tokenId]}, not ${logit}`);
      }
    });
  });
});

describe('applyBias', () => {
  it('adds to the tokens named, and to none that the model does not have', () => {
    const bias = [
      [1, -100],
      [0, 0.5],
      [9, 5],
    ] as const;
    expect(filtered([1, 2, 3], (logits) => applyBias(logits, bias))).toEqual([1.5, -98, 3]);
  });
});
