import { describe, expect, it } from 'vitest';
import {
  CALL_COST_COLUMNS,
  isWorthMoving,
  planBanks,
  planCost,
} from '../../../worker/cache/bank-plan.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';

/** The least cost over every way to give each row one of the capacities that hold it. */
function leastCost(needed: readonly number[], capacities: readonly number[] = []): number {
  const [first, ...rest] = needed;
  if (first === undefined) return planCost(capacities);
  const levels = [64, 128, 256, 1024, 4096, 16_384].filter((level) => level >= first);
  return Math.min(...levels.map((level) => leastCost(rest, [...capacities, level])));
}

describe('planBanks', () => {
  it('does not make fifteen short rows pay for a long one', () => {
    const fifteen = Array<number>(15).fill(64);
    expect(planBanks([...fifteen, 4096])).toEqual([...fifteen, 4096]);
  });

  it('reads rows of nearly one length together', () => {
    expect(planBanks([64, 128])).toEqual([128, 128]);
    expect(planBanks([256, 64, 128])).toEqual([256, 256, 256]);
  });

  it('has nothing to plan without rows', () => {
    expect(planBanks([])).toEqual([]);
  });

  it('is as cheap as the best of all ways', () => {
    const rng = seededRng(9);
    for (let trial = 0; trial < 200; trial += 1) {
      const needed = Array.from({ length: integerFrom(rng, 1, 6) }, () =>
        pickFrom(rng, [64, 64, 128, 256, 1024, 4096, 16_384]),
      );

      const plan = planBanks(needed);

      for (const [i, capacity] of plan.entries()) {
        expect(capacity).toBeGreaterThanOrEqual(needed[i]!);
        expect(needed).toContain(capacity);
      }
      expect(planCost(plan)).toBe(leastCost(needed));
    }
  });
});

describe('planCost', () => {
  it('is the columns of all rows and a call for each bank', () => {
    expect(planCost([64, 64, 128])).toBe(256 + 2 * CALL_COST_COLUMNS);
  });
});

describe('isWorthMoving', () => {
  it('says no to what is the same or little cheaper, yes to what is much cheaper', () => {
    expect(isWorthMoving([64, 128], [64, 128])).toBe(false);
    expect(isWorthMoving([128], [64])).toBe(false);
    expect(isWorthMoving([64, 128], [128, 128])).toBe(true);
    expect(isWorthMoving([], [])).toBe(false);
  });
});
