import { describe, expect, it } from 'vitest';
import {
  gumbelBound,
  gumbelNoise,
  hashDraw,
  noiseBits,
  toGumbel,
} from '../../../worker/sampling/noise.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

const numTrials = 1 << 14;

/** Bits of draws that differ in one thing only, as those of a sequence or a batch do. */
const SERIES: Readonly<Record<string, (i: number) => number>> = {
  tokens: (i) => noiseBits(hashDraw({ seed: 7, position: 100 }), i),
  positions: (i) => noiseBits(hashDraw({ seed: 7, position: i }), 100),
  seeds: (i) => noiseBits(hashDraw({ seed: i, position: 100 }), 5),
  'positions and tokens together': (i) => noiseBits(hashDraw({ seed: 0, position: i }), i),
};

/** Words that stand at the ends of what 32 bits can be. */
const EXTREMES = Array.from({ length: 33 }, (_, i) => 2 ** i)
  .flatMap((power) => [power - 2, power - 1, power, power + 1])
  .filter((bits) => bits >= 0 && bits < 2 ** 32)
  .flatMap((bits) => [bits, 2 ** 32 - 1 - bits]);

function expectEven(counts: readonly number[]): void {
  const total = counts.reduce((sum, count) => sum + count);
  const expected = total / counts.length;
  const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  const freedom = counts.length - 1;
  expect(Math.abs(chiSquare - freedom)).toBeLessThan(5 * Math.sqrt(2 * freedom));
}

describe.each(Object.entries(SERIES))('noiseBits over %s', (_, bitsOf) => {
  const series = Array.from({ length: numTrials + 1 }, (_, i) => bitsOf(i));

  it('sets each bit half of the time', () => {
    for (let bit = 0; bit < 32; bit += 1) {
      const numSet = series.filter((bits) => (bits >>> bit) & 1).length;
      expect(Math.abs(numSet - numTrials / 2)).toBeLessThan(4.5 * Math.sqrt(numTrials / 4));
    }
  });

  it('flips each bit half of the time from one to the next', () => {
    for (let bit = 0; bit < 32; bit += 1) {
      const numFlipped = series.slice(1).filter((bits, i) => ((bits ^ series[i]!) >>> bit) & 1);
      expect(Math.abs(numFlipped.length - numTrials / 2)).toBeLessThan(
        4.5 * Math.sqrt(numTrials / 4),
      );
    }
  });

  it('fills buckets evenly, alone and in pairs of neighbors', () => {
    const counts = Array<number>(256).fill(0);
    const pairCounts = Array<number>(256).fill(0);
    for (let i = 0; i < numTrials; i += 1) {
      counts[series[i]! >>> 24]! += 1;
      pairCounts[((series[i]! >>> 28) << 4) | (series[i + 1]! >>> 28)]! += 1;
    }
    expectEven(counts);
    expectEven(pairCounts);
  });
});

describe('noiseBits', () => {
  it.each(['seed', 'position', 'tokenId'] as const)(
    'changes every bit half of the time with any bit of the %s',
    (name) => {
      const rng = seededRng(3);
      const numDraws = 2_000;
      for (let inputBit = 0; inputBit < 16; inputBit += 1) {
        const numFlips = Array<number>(32).fill(0);
        for (let draw = 0; draw < numDraws; draw += 1) {
          const input = {
            seed: integerFrom(rng, 0, 2 ** 32),
            position: integerFrom(rng, 0, 4096),
            tokenId: integerFrom(rng, 0, 32_000),
          };
          const flipped = { ...input, [name]: (input[name] ^ (1 << inputBit)) >>> 0 };
          const changed =
            noiseBits(hashDraw(input), input.tokenId) ^
            noiseBits(hashDraw(flipped), flipped.tokenId);
          for (let bit = 0; bit < 32; bit += 1) numFlips[bit]! += (changed >>> bit) & 1;
        }
        for (const count of numFlips) {
          expect(Math.abs(count - numDraws / 2)).toBeLessThan(5 * Math.sqrt(numDraws / 4));
        }
      }
    },
  );
});

describe('gumbelNoise', () => {
  it('has the mean and variance of the standard Gumbel distribution', () => {
    const noise = Array.from({ length: 50_000 }, (_, tokenId) =>
      gumbelNoise({ seed: 3, position: 9 }, tokenId),
    );
    const mean = noise.reduce((sum, value) => sum + value) / noise.length;
    const squares = noise.reduce((sum, value) => sum + (value - mean) ** 2, 0);

    const variance = Math.PI ** 2 / 6;
    expect(Math.abs(mean - 0.5772156649)).toBeLessThan(4 * Math.sqrt(variance / noise.length));
    expect(Math.abs(squares / noise.length - variance)).toBeLessThan(0.1); // 4 sigma are 0.062
  });

  it('depends on nothing but seed, position and token', () => {
    const key = { seed: 11, position: 4 };
    const first = Array.from({ length: 20 }, (_, tokenId) => gumbelNoise(key, tokenId));
    for (let i = 0; i < 20; i += 1) gumbelNoise({ seed: i, position: i }, i);

    const again = Array.from({ length: 20 }, (_, i) => gumbelNoise({ ...key }, 19 - i)).reverse();
    expect(again).toEqual(first);
  });

  it.each([0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])('takes the seed %d', (seed) => {
    const noise = Array.from({ length: 100 }, (_, i) => gumbelNoise({ seed, position: i }, i));
    expect(noise.every(Number.isFinite)).toBe(true);
    expect(new Set(noise).size).toBe(100);
  });

  it('differs between a choice and the next, whose seeds differ in many bits', () => {
    const rows = [0, 1, 2, 0xffff_ffff].map((seed) =>
      Array.from({ length: 50 }, (_, position) => gumbelNoise({ seed, position }, 0)),
    );
    expect(new Set(rows.flat()).size).toBe(200);
  });
});

describe('toGumbel', () => {
  it.each(EXTREMES)('is finite for the bits %d', (bits) => {
    expect(toGumbel(bits)).toBeGreaterThan(-3.2);
    expect(toGumbel(bits)).toBeLessThan(22.9);
  });

  it('grows with the bits', () => {
    const sorted = EXTREMES.toSorted((a, b) => a - b);
    const noise = sorted.map(toGumbel);
    expect(noise).toEqual(noise.toSorted((a, b) => a - b));
  });
});

describe('gumbelBound', () => {
  it('is never below the noise', () => {
    const rng = seededRng(1);
    const random = Array.from({ length: 100_000 }, () => integerFrom(rng, 0, 2 ** 32));
    const nearOne = random.map((bits) => 2 ** 32 - 1 - Math.floor(bits / 2 ** (bits % 32)));
    for (const bits of [...EXTREMES, ...random, ...nearOne]) {
      if (gumbelBound(bits) < toGumbel(bits)) expect.fail(`${bits} is above its bound`);
    }
  });

  it('is near the noise where the noise is large', () => {
    for (const bits of EXTREMES.filter((bits) => bits >= 2 ** 31)) {
      // ln 2 for the leading bits, and 0.33 for -ln u >= 1 - u where u is a half
      expect(gumbelBound(bits) - toGumbel(bits)).toBeLessThan(1.03);
    }
  });
});
