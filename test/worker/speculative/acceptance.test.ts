import { describe, expect, it } from 'vitest';
import {
  AcceptanceModel,
  type DraftOutcome,
  type SequenceAcceptance,
} from '../../../worker/speculative/acceptance.ts';
import { seededRng } from '../../support/random.ts';

const draft = { proposer: 'draft', matchLength: 0 } as const;

function outcome(numDrafted: number, numAccepted: number): DraftOutcome {
  const numCompared = Math.min(numDrafted, numAccepted + 1);
  return { ...draft, numPlanned: numDrafted, numDrafted, numCompared, numAccepted };
}

/** Acceptance at each place, given that those before were accepted. */
function ratesOf(expected: Float64Array): number[] {
  const reached = Array.from(expected.subarray(1), (value, i) => value - expected[i]!);
  return reached.map((value, i) => (i === 0 ? value : value / reached[i - 1]!));
}

describe('AcceptanceModel', () => {
  it('expects something of a proposer it has not seen, less of longer drafts', () => {
    const expected = new AcceptanceModel().expectedAccepted(draft, 4, null);

    expect(expected).toHaveLength(5);
    expect(expected[0]).toBe(0);
    for (const rate of ratesOf(expected)) expect(rate).toBeCloseTo(0.6);
  });

  it('learns the rate of each place', () => {
    const model = new AcceptanceModel();
    const rng = seededRng(1);
    const rates = [0.9, 0.6, 0.3];
    for (let i = 0; i < 2_000; i += 1) {
      const numAccepted = rates.findIndex((rate) => rng() >= rate);
      model.observe(outcome(3, numAccepted === -1 ? 3 : numAccepted), new Map());
    }
    // Three standard deviations of some 500 trials that are remembered.
    for (const [i, rate] of ratesOf(model.expectedAccepted(draft, 3, null)).entries()) {
      expect(Math.abs(rate - rates[i]!)).toBeLessThan(0.07);
    }
  });

  it('finds a useless draft model out within a few drafts', () => {
    const model = new AcceptanceModel();
    const sequence: SequenceAcceptance = new Map();
    for (let i = 0; i < 5; i += 1) model.observe(outcome(3, 0), sequence);
    expect(model.expectedAccepted(draft, 1, sequence)[1]).toBeLessThan(0.2);
    expect(model.expectedAccepted(draft, 1, null)[1]).toBeLessThan(0.4);
  });

  it('tells a sequence that cannot be drafted for from the others', () => {
    const model = new AcceptanceModel();
    for (let i = 0; i < 200; i += 1) model.observe(outcome(3, i % 4 === 0 ? 1 : 3), new Map());
    const odd: SequenceAcceptance = new Map();
    for (let i = 0; i < 6; i += 1) model.observe(outcome(3, 0), odd);

    expect(model.expectedAccepted(draft, 1, null)[1]).toBeGreaterThan(0.75);
    expect(model.expectedAccepted(draft, 1, odd)[1]).toBeLessThan(0.5);
    for (let i = 0; i < 12; i += 1) model.observe(outcome(3, 3), odd);
    expect(model.expectedAccepted(draft, 1, odd)[1]).toBeGreaterThan(0.7);
  });

  it('tells lookups by the length of their match', () => {
    const model = new AcceptanceModel();
    const lookup = (matchLength: number, numAccepted: number): DraftOutcome => ({
      ...outcome(4, numAccepted),
      proposer: 'ngram',
      matchLength,
    });
    for (let i = 0; i < 100; i += 1) {
      model.observe(lookup(2, 0), new Map());
      model.observe(lookup(20, 4), new Map());
    }
    const expect4 = (matchLength: number) =>
      model.expectedAccepted({ proposer: 'ngram', matchLength }, 4, null)[4]!;
    expect(expect4(2)).toBeLessThan(0.1);
    expect(expect4(20)).toBeGreaterThan(3.5);
    expect(expect4(12)).toBe(expect4(20));
  });

  it('expects no more of a draft that may stop early than it is likely to have', () => {
    const model = new AcceptanceModel();
    const early = { ...outcome(1, 1), numPlanned: 4 };
    for (let i = 0; i < 300; i += 1) model.observe(i % 2 === 0 ? early : outcome(4, 4), new Map());

    const expected = model.expectedAccepted(draft, 4, null);
    expect(expected[4]! / (0.5 * 1 + 0.5 * 4)).toBeCloseTo(1, 1);
    expect(model.expectedDrafted('draft', 4, 1)[4]).toBeCloseTo(2.5, 1);
    expect(model.expectedDrafted('draft', 4, 16)[4]).toBeCloseTo(4, 1);
  });
});
