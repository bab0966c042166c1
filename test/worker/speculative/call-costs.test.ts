import { describe, expect, it } from 'vitest';
import { CallCosts, MachineSpeed } from '../../../worker/speculative/call-costs.ts';
import { pickFrom, seededRng } from '../../support/random.ts';

const PRIOR = { tokenCost: () => 0.04, like: null };

/** What is thought of shapes after ten calls of each that took exactly so long. */
function costsOf(calls: readonly (readonly [rows: number, tokens: number, ms: number])[]) {
  const costs = new CallCosts(new MachineSpeed(), PRIOR);
  for (let i = 0; i < 10; i += 1) {
    for (const [numRows, numNewTokens, ms] of calls) costs.observe({ numRows, numNewTokens, ms });
  }
  return (numRows: number, numNewTokens: number) =>
    costs.estimate({ numRows, numNewTokens }) ?? Number.NaN;
}

/** Within a tenth: what was not called often or lately is thought a little cheaper. */
function expectAbout(actual: number, expected: number): void {
  expect(actual / expected).toBeGreaterThan(0.9);
  expect(actual / expected).toBeLessThan(1.05);
}

describe('CallCosts', () => {
  it('knows nothing before the first call', () => {
    expect(costsOf([])(1, 1)).toBeNaN();
  });

  it('lies between its neighbors for tokens, and for rows', () => {
    const estimate = costsOf([
      [1, 1, 10],
      [1, 5, 18],
      [9, 1, 50],
      [9, 5, 90],
    ]);

    expectAbout(estimate(1, 5), 18);
    expectAbout(estimate(1, 3), 14);
    expectAbout(estimate(5, 1), 30);
    expectAbout(estimate(5, 3), 42);
  });

  it('goes on in a straight line, at the price of a token for other rows where there is none', () => {
    const estimate = costsOf([
      [1, 1, 10],
      [1, 5, 18],
      [4, 1, 20],
    ]);

    expectAbout(estimate(1, 8), 24);
    expectAbout(estimate(4, 2), 28);
  });

  it('never has more tokens cost less where it guesses', () => {
    const estimate = costsOf([
      [1, 2, 12],
      [1, 4, 11],
    ]);
    expect(estimate(1, 6)).toBeGreaterThanOrEqual(estimate(1, 5));
    expect(estimate(1, 1)).toBeLessThanOrEqual(12);
  });

  it('thinks better of a shape than its slow first call', () => {
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    for (let i = 0; i < 5; i += 1) costs.observe({ numRows: 1, numNewTokens: 1, ms: 10 });
    costs.observe({ numRows: 1, numNewTokens: 4, ms: 30 });
    expect(costs.estimate({ numRows: 1, numNewTokens: 4 })).toBeLessThan(15);
    for (let i = 0; i < 4; i += 1) costs.observe({ numRows: 1, numNewTokens: 4, ms: 15 });
    expectAbout(costs.estimate({ numRows: 1, numNewTokens: 4 })!, 15);
  });

  it('gets over two slow calls of a shape, one after the other, in two more', () => {
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    for (let i = 0; i < 5; i += 1) costs.observe({ numRows: 1, numNewTokens: 1, ms: 10 });
    for (const ms of [30, 35, 15, 15]) costs.observe({ numRows: 1, numNewTokens: 4, ms });
    expect(costs.estimate({ numRows: 1, numNewTokens: 4 })! / 15).toBeLessThan(1.1);
    expectAbout(costs.estimate({ numRows: 1, numNewTokens: 1 })!, 10);
  });

  it('thinks a shape cheaper the longer it was not called, up to a fifth', () => {
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    for (let i = 0; i < 10; i += 1) costs.observe({ numRows: 1, numNewTokens: 4, ms: 15 });
    for (let i = 0; i < 50_000; i += 1) costs.observe({ numRows: 1, numNewTokens: 1, ms: 10 });
    expect(costs.estimate({ numRows: 1, numNewTokens: 4 })).toBeCloseTo(12, 0);
    expectAbout(costs.estimate({ numRows: 1, numNewTokens: 1 })!, 10);
  });

  it('is not moved by one call in eight that takes three times as long', () => {
    const rng = seededRng(1);
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    for (let i = 0; i < 200; i += 1) {
      const ms = 10 * (rng() < 0.125 ? 3 : 0.95 + rng() / 10);
      costs.observe({ numRows: 1, numNewTokens: 1, ms });
    }
    expect(costs.estimate({ numRows: 1, numNewTokens: 1 })).toBeGreaterThan(9);
    expect(costs.estimate({ numRows: 1, numNewTokens: 1 })).toBeLessThan(13);
  });

  it('still knows how calls compare when the machine slows while only one shape is called', () => {
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    const observe = (numNewTokens: number, ms: number) =>
      costs.observe({ numRows: 1, numNewTokens, ms });
    for (let i = 0; i < 20; i += 1) observe(1, 10);
    for (let i = 0; i < 20; i += 1) observe(5, 15);
    for (let i = 0; i < 30; i += 1) observe(5, 30);

    const plain = costs.estimate({ numRows: 1, numNewTokens: 1 })!;
    const drafted = costs.estimate({ numRows: 1, numNewTokens: 5 })!;
    expect(drafted).toBeGreaterThan(28);
    expect(drafted / plain).toBeGreaterThan(1.4);
    expect(drafted / plain).toBeLessThan(1.65);
  });

  it('learns a cost within a tenth from few noisy calls of mixed shapes', () => {
    const rng = seededRng(2);
    const costs = new CallCosts(new MachineSpeed(), PRIOR);
    const trueMs = (rows: number, tokens: number) => 8 + 2 * rows + 1.5 * rows * tokens;
    for (let i = 0; i < 400; i += 1) {
      const numRows = pickFrom(rng, [1, 2, 4, 8, 16]);
      const numNewTokens = pickFrom(rng, [1, 2, 5, 9]);
      const ms = trueMs(numRows, numNewTokens) * (0.95 + rng() / 10);
      costs.observe({ numRows, numNewTokens, ms });
    }
    for (const [numRows, numNewTokens] of [
      [1, 1],
      [3, 4],
      [12, 7],
      [16, 9],
    ] as const) {
      const ratio = costs.estimate({ numRows, numNewTokens })! / trueMs(numRows, numNewTokens);
      expect(Math.abs(ratio - 1)).toBeLessThan(0.1);
    }
  });

  it('takes from costs that are like these how much more tokens and rows cost', () => {
    const speed = new MachineSpeed();
    const like = new CallCosts(speed, PRIOR);
    const costs = new CallCosts(speed, { ...PRIOR, like });
    for (let i = 0; i < 10; i += 1) {
      like.observe({ numRows: 1, numNewTokens: 1, ms: 10 });
      like.observe({ numRows: 1, numNewTokens: 5, ms: 18 });
      like.observe({ numRows: 4, numNewTokens: 1, ms: 20 });
    }
    expectAbout(costs.estimate({ numRows: 1, numNewTokens: 5 })!, 18);

    for (let i = 0; i < 10; i += 1) costs.observe({ numRows: 1, numNewTokens: 1, ms: 30 });
    expectAbout(costs.estimate({ numRows: 1, numNewTokens: 5 })!, 38);
    expectAbout(costs.estimate({ numRows: 4, numNewTokens: 1 })!, 60);
  });
});
