import { describe, expect, it } from 'vitest';
import { Controller } from '../../../worker/speculative/controller.ts';
import type { DraftPolicy, PolicyRow } from '../../../worker/speculative/policy.ts';
import type { ProposerName } from '../../../worker/speculative/proposer.ts';
import { DraftingWorld, type Regime, type WeightFormat } from '../../support/drafting-world.ts';
import { FixedPolicy } from '../../support/fixed-policy.ts';
import { seededRng } from '../../support/random.ts';

const easy: Regime = { draftAcceptance: [0.75, 0.74, 0.72, 0.7] };
const hard: Regime = { draftAcceptance: [0.15, 0.1] };
const random: Regime = { draftAcceptance: [0.02] };
const useless: Regime = { draftAcceptance: [0.001], claimed: 0.9 };
const copied: Regime = {
  draftAcceptance: [0.7],
  lookup: { found: 0.9, acceptance: 0.95, matchLength: 12 },
};
const misleading: Regime = {
  draftAcceptance: [0.02],
  lookup: { found: 0.5, acceptance: 0.02, matchLength: 2 },
};

interface Trial {
  readonly format: WeightFormat;
  readonly numRows: number;
  readonly regimeOf: Parameters<DraftingWorld['run']>[2];
  readonly proposers?: readonly ProposerName[];
  readonly draftCost?: number;
  readonly capacities?: readonly number[];
}

/** Tokens per millisecond of a policy over many steps. */
function rateOf(policy: DraftPolicy, trial: Trial, seed: number): number {
  const { format, numRows, regimeOf } = trial;
  const { proposers = ['draft'], draftCost = 0.15, capacities = [] } = trial;
  const rng = seededRng(seed);
  const world = new DraftingWorld({ format, draftCost, proposers, maxDraft: 8, capacities, rng });
  world.run(policy, { numRows, numSteps: numRows < 16 ? 1_500 : 800 }, regimeOf);
  return world.rate;
}

function bestFixedRate(trial: Trial): number {
  const rates = (trial.proposers ?? ['draft']).flatMap((proposer) =>
    [0, 1, 2, 3, 5, 8].map((length) => rateOf(new FixedPolicy([proposer], length), trial, 77)),
  );
  return Math.max(...rates);
}

const plain = new FixedPolicy([], 0);

/** Asks for plans of a step that reads all rows in one call. */
function planOf(controller: Controller, rows: readonly PolicyRow[], numOthers = 0) {
  const numRows = rows.length + numOthers;
  return controller.plan(rows, {
    numOthers,
    layOut: (lengths) => [
      { numRows, numNewTokens: 1 + Math.max(0, ...lengths), frozenCapacity: 64 },
    ],
  });
}

/** Tells of a call of one row. */
function observeCall(controller: Controller, numNewTokens: number, ms: number): void {
  controller.observeCall({ numRows: 1, numNewTokens, frozenCapacity: 64, ms });
}

const settings = (['fp32', 'int8', 'blocks'] as const).flatMap((format) =>
  [1, 4, 16].map((numRows) => ({ format, numRows })),
);

describe('Controller', () => {
  it('drafts nothing before it knows what a plain step costs', () => {
    const controller = new Controller();
    const candidates = [{ proposer: 'draft', maxTokens: 4, matchLength: 0 }] as const;
    const rows = [{ sequence: {}, candidates }];
    expect(planOf(controller, rows)).toEqual([null]);

    for (let i = 0; i < 3; i += 1) observeCall(controller, 1, 30);
    expect(planOf(controller, rows)[0]?.proposer).toBe('draft');
    expect(planOf(controller, rows, 1)).toEqual([null]); // two rows are another call
  });

  it('plans for rows without candidates, and for none', () => {
    const controller = new Controller();
    for (let i = 0; i < 3; i += 1) observeCall(controller, 1, 30);
    expect(planOf(controller, [{ sequence: {}, candidates: [] }])).toEqual([null]);
    expect(planOf(controller, [])).toEqual([]);
  });

  it.each(settings)(
    'is as fast as the best fixed length where drafting pays: $format, $numRows rows',
    ({ format, numRows }) => {
      const trial = { format, numRows, regimeOf: () => easy };
      const best = bestFixedRate(trial);
      expect(best).toBeGreaterThan(1.05 * rateOf(plain, trial, 77));
      expect(rateOf(new Controller(), trial, 1)).toBeGreaterThan(0.98 * best);
    },
  );

  it.each(
    settings.flatMap((setting) => [
      { ...setting, name: 'a useless draft model that is sure of itself', regime: useless },
      { ...setting, name: 'random text', regime: random },
    ]),
  )('loses next to nothing to $name: $format, $numRows rows', ({ format, numRows, regime }) => {
    const trial = { format, numRows, regimeOf: () => regime };
    const rate = rateOf(new Controller(), trial, 2);
    expect(rate).toBeGreaterThan(0.985 * rateOf(plain, trial, 77));
  });

  it.each(settings.filter(({ format }) => format !== 'fp32'))(
    'loses nothing where half the sequences are easy: $format, $numRows rows',
    ({ format, numRows }) => {
      const regimeOf = ({ serial }: { serial: number }) => (serial % 2 === 0 ? easy : random);
      const trial = { format, numRows, regimeOf };
      // Of 16 rows there are few steps, and what is lost to learning counts for more.
      const least = (numRows < 16 ? 0.985 : 0.975) * bestFixedRate(trial);
      expect(rateOf(new Controller(), trial, 3)).toBeGreaterThan(least);
    },
  );

  it.each([
    { name: 'turn random', early: easy, late: random },
    { name: 'turn easy', early: random, late: easy },
    { name: 'turn from easy to hard', early: easy, late: hard },
  ])('adapts to sequences that $name half way', ({ early, late }) => {
    const regimeOf = ({ length }: { length: number }) => (length < 75 ? early : late);
    const trial = { format: 'int8', numRows: 1, regimeOf } as const;
    const rate = rateOf(new Controller(), trial, 4);
    expect(rate).toBeGreaterThan(0.98 * bestFixedRate(trial));
    expect(rate).toBeGreaterThan(1.05 * rateOf(plain, trial, 77));
  });

  it.each(settings.filter(({ format }) => format === 'int8'))(
    'takes lookups where text is copied, and leaves misleading ones: $format, $numRows rows',
    ({ format, numRows }) => {
      const proposers = ['ngram', 'draft'] as const;
      const copying = { format, numRows, proposers, regimeOf: () => copied };
      expect(rateOf(new Controller(), copying, 5)).toBeGreaterThan(0.97 * bestFixedRate(copying));

      const misled = { format, numRows, proposers, regimeOf: () => misleading };
      const rate = rateOf(new Controller(), misled, 6);
      expect(rate).toBeGreaterThan(0.985 * rateOf(plain, misled, 77));
    },
  );

  it.each(settings.filter(({ numRows }) => numRows > 1))(
    'drafts for rows of two capacities, as fast as the best fixed length: $format, $numRows rows',
    ({ format, numRows }) => {
      const capacities = Array.from({ length: numRows }, (_, i) => (i < numRows / 2 ? 64 : 2048));
      const trial = { format, numRows, capacities, regimeOf: () => easy };
      const best = bestFixedRate(trial);
      expect(best).toBeGreaterThan(1.05 * rateOf(plain, trial, 77));
      expect(rateOf(new Controller(), trial, 7)).toBeGreaterThan(0.98 * best);
    },
  );

  it.each([
    { name: 'nothing is found', others: random },
    { name: 'lookups mislead', others: misleading },
  ])('gives the few rows that copy calls of their own where for others $name', ({ others }) => {
    const regimeOf = ({ serial }: { serial: number }) => (serial % 2 === 0 ? copied : others);
    const proposers = ['ngram'] as const;
    const trial = { format: 'int8', numRows: 16, proposers, regimeOf } as const;
    const controller = new Controller();
    for (const numRows of [1, 2, 3, 5, 8, 12]) rateOf(controller, { ...trial, numRows }, 8);
    expect(rateOf(controller, trial, 9)).toBeGreaterThan(1.1 * rateOf(plain, trial, 77));
  });

  it('drafts again within a few steps of a first success', () => {
    const controller = new Controller();
    const sequence = {};
    const candidates = [{ proposer: 'draft', maxTokens: 4, matchLength: 0 }] as const;
    /** @returns the tokens drafted, all right or all wrong */
    const step = (isRight: boolean) => {
      const numDrafted = planOf(controller, [{ sequence, candidates }])[0]?.numTokens ?? 0;
      observeCall(controller, 1 + numDrafted, 20 + 3 * numDrafted);
      if (numDrafted === 0) return 0;
      controller.observeDraft({ numRows: 1, numRuns: numDrafted, ms: 3 * numDrafted });
      const numAccepted = isRight ? numDrafted : 0;
      const compared = { numCompared: Math.min(numDrafted, numAccepted + 1), matchLength: 0 };
      const draft = { proposer: 'draft', numDrafted, numAccepted, ...compared } as const;
      controller.observeVerified(sequence, draft);
      return numDrafted;
    };
    for (let i = 0; i < 1_000; i += 1) step(false);

    let numSteps = 0;
    while (step(true) === 0 && numSteps < 1_100) numSteps += 1;
    const drafted = Array.from({ length: 20 }, () => step(true));
    expect(drafted.filter((length) => length > 0).length).toBeGreaterThan(15);
  });

  it('learns from lookups that it does not draft', () => {
    const controller = new Controller();
    for (let i = 0; i < 5; i += 1) {
      observeCall(controller, 1, 10);
      observeCall(controller, 2, 24);
      observeCall(controller, 3, 24);
    }
    const candidates = [
      { proposer: 'ngram', maxTokens: 2, matchLength: 2, tokenIds: [5, 6] },
    ] as const;
    const plan = (sequence: object) => planOf(controller, [{ sequence, candidates }])[0];
    expect(plan({})).toBeNull();

    for (let i = 0; i < 20; i += 1) {
      const sequence = {};
      plan(sequence);
      controller.observeTaken(sequence, [5]);
      controller.observeTaken(sequence, [6]);
    }
    expect(plan({})).toEqual({ proposer: 'ngram', numTokens: 2 });
  });

  it('stages drafts once that takes fewer runs', () => {
    const controller = new Controller();
    const sequence = {};
    const candidates = (['draft', 'staged'] as const).map((proposer) => ({
      proposer,
      maxTokens: 4,
      matchLength: 0,
    }));
    const chosen = new Map<string, number>();
    for (let step = 0; step < 400; step += 1) {
      const [plan] = planOf(controller, [{ sequence, candidates }]);
      const numDrafted = plan?.numTokens ?? 0;
      observeCall(controller, 1 + numDrafted, 20 + numDrafted);
      if (!plan) continue;
      chosen.set(plan.proposer, (chosen.get(plan.proposer) ?? 0) + 1);
      const numRuns = plan.proposer === 'staged' ? Math.ceil(numDrafted / 2) : numDrafted;
      controller.observeDraft({ numRows: 1, numRuns, ms: 3 * numRuns });
      const numAccepted = Math.max(0, numDrafted - (step % 2));
      const { proposer } = plan;
      const compared = { numCompared: Math.min(numDrafted, numAccepted + 1), matchLength: 0 };
      controller.observeVerified(sequence, { proposer, numDrafted, numAccepted, ...compared });
    }
    expect(chosen.get('staged')).toBeGreaterThan(350);
    expect(chosen.get('draft')).toBeGreaterThan(1); // to compare
  });
});
