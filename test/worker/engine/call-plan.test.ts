import { describe, expect, it } from 'vitest';
import { TAIL_CAPACITY } from '../../../worker/cache/layout.ts';
import { type Call, type PlannedRow, planCalls } from '../../../worker/engine/call-plan.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

function rowsOf(...numTokens: readonly number[]): PlannedRow[] {
  return numTokens.map((count) => ({ numTokens: count, tailLength: 0 }));
}

/** Padded tokens, and eight of them for each call. */
function costOf(calls: readonly Call[]): number {
  return calls.reduce((sum, { start, end, numNewTokens }) => {
    return sum + 8 + (end - start) * numNewTokens;
  }, 0);
}

/**
 * The least cost of all ways to read the rows from `start` on, or to leave out those with nothing
 * to read.
 */
function leastCost(rows: readonly PlannedRow[], start = 0): number {
  if (start === rows.length) return 0;
  const costs = rows[start]!.numTokens === 0 ? [leastCost(rows, start + 1)] : [];
  for (let end = start + 1; end <= rows.length; end += 1) {
    const together = rows.slice(start, end);
    const numNewTokens = Math.max(...together.map(({ numTokens }) => numTokens));
    const readers = together.filter(({ numTokens }) => numTokens > 0);
    const fits = readers.every(({ tailLength }) => tailLength + numNewTokens <= TAIL_CAPACITY);
    if (!fits || numNewTokens === 0) continue;
    costs.push(costOf([{ start, end, numNewTokens }]) + leastCost(rows, end));
  }
  return Math.min(...costs);
}

function randomRow(rng: Rng): PlannedRow {
  const tailLength = pickFrom(rng, [0, 0, 5, 30, 60, 63]);
  const most = 64 - tailLength;
  const numTokens = pickFrom(rng, [0, 1, 1, 1, 4, 5, integerFrom(rng, 1, 65)]);
  return { numTokens: Math.min(most, numTokens), tailLength };
}

describe('planCalls', () => {
  it('reads a prompt apart from rows that decode', () => {
    expect(planCalls(rowsOf(1, 1, 1, 64))).toEqual([
      { start: 0, end: 3, numNewTokens: 1 },
      { start: 3, end: 4, numNewTokens: 64 },
    ]);
  });

  it('reads drafts of nearly one length together', () => {
    expect(planCalls(rowsOf(5, 4, 5))).toEqual([{ start: 0, end: 3, numNewTokens: 5 }]);
  });

  it('reads over a row that sits the step out, unless leaving it out is cheaper', () => {
    expect(planCalls(rowsOf(1, 0, 1))).toEqual([{ start: 0, end: 3, numNewTokens: 1 }]);
    expect(planCalls(rowsOf(20, 0, 20))).toHaveLength(2);
  });

  it('has no call without tokens', () => {
    expect(planCalls([])).toEqual([]);
    expect(planCalls(rowsOf(0, 0))).toEqual([]);
  });

  it('does not pad a row beyond the end of its tail', () => {
    const between = (tailLength: number) => {
      const long = { numTokens: 10, tailLength: 0 };
      return planCalls([long, { numTokens: 1, tailLength }, long]);
    };
    expect(between(62)).toHaveLength(1); // 62 + 10 is all there is
    expect(between(63)).toHaveLength(3);
  });

  it('costs what the best of all ways costs, reads every row once and never overflows a tail', () => {
    const rng = seededRng(17);
    for (let trial = 0; trial < 500; trial += 1) {
      const rows = Array.from({ length: integerFrom(rng, 1, 9) }, () => randomRow(rng));

      const calls = planCalls(rows);

      expect(costOf(calls)).toBe(leastCost(rows));
      const read = calls.flatMap(({ start, end, numNewTokens }) =>
        rows.slice(start, end).map((row) => {
          if (row.numTokens > 0) {
            expect(row.tailLength + numNewTokens).toBeLessThanOrEqual(TAIL_CAPACITY);
          }
          expect(row.numTokens).toBeLessThanOrEqual(numNewTokens);
          return row;
        }),
      );
      expect(new Set(read).size).toBe(read.length);
      for (const row of rows) if (row.numTokens > 0) expect(read).toContain(row);
      expect(calls.map(({ start }) => start)).toEqual(
        calls.map(({ start }) => start).toSorted((a, b) => a - b),
      );
    }
  });
});
