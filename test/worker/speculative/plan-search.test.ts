import { describe, expect, it } from 'vitest';
import {
  type SearchCosts,
  type SearchRow,
  type StepPlan,
  searchPlan,
} from '../../../worker/speculative/plan-search.ts';
import { integerFrom, type Rng, seededRng } from '../../support/random.ts';

/** Expected tokens of a draft in which each is accepted at this rate. */
function curve(rate: number, maxLength: number): Float64Array {
  const expected = new Float64Array(maxLength + 1);
  for (let i = 1; i <= maxLength; i += 1) expected[i] = expected[i - 1]! + rate ** i;
  return expected;
}

function costsOf(callMs: readonly number[], runMs: number): SearchCosts {
  return {
    plainMs: callMs[0]!,
    callsMs: (lengths) => callMs[Math.max(...lengths)]!,
    draft: (length, numRows) => ({ ms: length * runMs * (1 + 0.1 * numRows), longest: length }),
  };
}

/** Tokens per millisecond of a plan, worked out from its choices alone. */
function rateOf(
  choices: StepPlan['choices'],
  rows: readonly SearchRow[],
  costs: SearchCosts,
): number {
  let tokens = 0;
  let draft = 0;
  let lookup = 0;
  let numDrafting = 0;
  for (const [i, choice] of choices.entries()) {
    const expected = choice.lookup === null ? rows[i]!.drafted : rows[i]!.lookups[choice.lookup]!;
    tokens += 1 + (choice.length === 0 ? 0 : expected![choice.length]!);
    if (choice.length === 0) continue;
    if (choice.lookup === null) numDrafting += 1;
    if (choice.lookup === null) draft = Math.max(draft, choice.length);
    else lookup = Math.max(lookup, choice.length);
  }
  const drafting = numDrafting === 0 ? { ms: 0, longest: 0 } : costs.draft(draft, numDrafting);
  const lengths = choices.map((choice) => choice.length);
  return tokens / (drafting.ms + costs.callsMs(lengths));
}

describe('searchPlan', () => {
  it('drafts as long as another token is worth its time', () => {
    const row = { lookups: [], drafted: curve(0.8, 4) };
    const cheap = costsOf([10, 10.5, 11, 11.5, 12], 0.5);
    const dear = costsOf([10, 14, 18, 22, 26], 5);

    expect(searchPlan([row], cheap, 0).choices).toEqual([{ lookup: null, length: 4 }]);
    expect(searchPlan([row], dear, 0).choices).toEqual([{ lookup: null, length: 0 }]);
  });

  it('takes the lookup where it promises more, and no more of it than the step has room for', () => {
    const rows = [
      { lookups: [curve(0.1, 2), curve(0.95, 3)], drafted: curve(0.5, 4) },
      { lookups: [], drafted: curve(0.5, 4) },
    ];
    const plan = searchPlan(rows, costsOf([10, 10, 10, 10, 30], 0.2), 0);

    expect(plan.choices[0]).toEqual({ lookup: 1, length: 3 });
    expect(plan.choices[1]?.lookup).toBeNull();
    expect(plan.choices[1]?.length).toBeGreaterThan(0);
  });

  it('lets a sequence alone for which a row more in the draft model is wasted', () => {
    const rows = [
      { lookups: [], drafted: curve(0.9, 4) },
      { lookups: [], drafted: curve(0.01, 4) },
    ];
    const lengths = searchPlan(rows, costsOf([10, 10, 10, 10, 10], 1), 0).choices;
    expect(lengths.map(({ length }) => length)).toEqual([4, 0]);
  });

  it('does not make many rows wait for the draft of one', () => {
    const row = { lookups: [curve(0.9, 4)], drafted: null };
    const costs = costsOf([100, 130, 160, 190, 220], 0);
    expect(searchPlan([row], costs, 0).choices[0]?.length).toBe(4);
    expect(searchPlan([row], costs, 15).choices[0]?.length).toBe(0);
  });

  it('lengthens the lookup of one row alone where all rows need not be padded to it', () => {
    const long = { lookups: [curve(0.95, 8)], drafted: null };
    const poor = { lookups: [curve(0.2, 8)], drafted: null };
    // One call for the short rows and one for each of the long.
    const callsMs = (lengths: readonly number[]) =>
      100 + 20 * lengths.filter((length) => length > 0).length;
    const costs = { ...costsOf([100], 0), callsMs };
    const lengths = searchPlan([poor, long, poor], costs, 0).choices.map(({ length }) => length);
    expect(lengths).toEqual([0, 8, 0]);
  });

  it('promises what its choices give, and no less than one length for all', () => {
    const rng = seededRng(5);
    for (let trial = 0; trial < 300; trial += 1) {
      const rows = Array.from({ length: integerFrom(rng, 1, 6) }, () => randomRow(rng));
      const perToken = rng() * 5;
      const costs = costsOf(
        [0, 1, 2, 3, 4, 5].map((i) => 20 + i * perToken),
        rng() * 5,
      );
      const plan = searchPlan(rows, costs, 0);

      expect(plan.tokens / plan.ms).toBeCloseTo(rateOf(plan.choices, rows, costs), 9);
      const drafts = [0, 1, 2, 3, 4, 5].map((length) =>
        rows.map((row) => ({
          lookup: null,
          length: Math.min(length, (row.drafted?.length ?? 1) - 1),
        })),
      );
      const best = Math.max(...drafts.map((choices) => rateOf(choices, rows, costs)));
      // Short of it by the margin that any draft must promise, and by rows left out a little early.
      expect(plan.tokens / plan.ms).toBeGreaterThan(best * 0.985);
    }
  });
});

function randomRow(rng: Rng): SearchRow {
  return {
    lookups: rng() < 0.5 ? [] : [curve(rng(), integerFrom(rng, 1, 6))],
    drafted: rng() < 0.2 ? null : curve(rng(), integerFrom(rng, 1, 6)),
  };
}
