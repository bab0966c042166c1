import type { AcceptanceModel } from './acceptance.ts';
import { CallCosts, MachineSpeed } from './call-costs.ts';
import type { SearchCosts } from './plan-search.ts';
import type { CallCost, Candidate, DraftCost, LayOut, TargetCall } from './policy.ts';
import type { ProposerName } from './proposer.ts';
import { TargetCosts } from './target-costs.ts';

/** Proposers that take runs of the draft model. */
export type ModelProposer = Extract<ProposerName, 'draft' | 'staged'>;

export function isModel(proposer: ProposerName): proposer is ModelProposer {
  return proposer === 'draft' || proposer === 'staged';
}

/** Steps after which staged drafting is compared with unstaged again, at this length. */
const COMPARE_EVERY = 50;
const COMPARED_LENGTH = 4;
/** A run of the draft model, as a part of the target's, before any was measured. */
const PRIOR_RUN_COST = 0.15;
/** Runs for each token that staged drafting is assumed to take, and how fast it learns better. */
const PRIOR_STAGED_RUNS = 0.8;
const RUNS_GAIN = 0.1;
/** Beyond the shapes of all calls, to number these. */
const MAX_ROWS = 2 ** 11;
const MAX_TOKENS = 2 ** 7;

/** What the choices of one step cost. */
export interface StepCosts extends SearchCosts {
  readonly numRows: number;
  /** Longest draft that any row could have. */
  readonly maxLength: number;
  /** Who drafts where the draft model does; `null` where it cannot. */
  readonly drafter: ModelProposer | null;
  /** The calls of the target, with drafts of one length for all rows; it may be a mean. */
  uniformMs(length: number): number;
  /** Another run of the draft model behind the first. */
  runMs(numRows: number): number;
}

/** Whether drafts of some length would pay, if every row had this many accepted of each length. */
export function wouldPay(costs: StepCosts, expected: Float64Array): boolean {
  for (let length = 1; length <= costs.maxLength; length += 1) {
    const { ms, longest } = costs.draft(length, costs.numRows);
    const stepMs = ms + costs.uniformMs(longest);
    if ((1 + expected[length]!) / stepMs > 1 / costs.plainMs) return true;
  }
  return false;
}

/**
 * What steps cost on this machine: calls of the target, and runs of the draft model, staged or not.
 */
export class StepCostModel {
  readonly #acceptance: AcceptanceModel;
  readonly #target: TargetCosts;
  /** By rows and, in place of new tokens, runs: the first of a step finds the caches cold. */
  readonly #runs: Readonly<Record<ModelProposer, CallCosts>>;
  /** Runs of the draft model for each token of the longest draft. */
  readonly #runsPerToken = { draft: 1, staged: PRIOR_STAGED_RUNS };

  constructor(acceptance: AcceptanceModel) {
    const speed = new MachineSpeed();
    const draft = new CallCosts(speed, { tokenCost: runCost, like: null });
    this.#acceptance = acceptance;
    this.#target = new TargetCosts(speed);
    this.#runs = { draft, staged: new CallCosts(speed, { tokenCost: runCost, like: draft }) };
  }

  /** Whether it is known what these calls cost. */
  knows(calls: readonly TargetCall[]): boolean {
    return calls.every((call) => this.#target.knows(call));
  }

  /** @param step counts on, so that what is not in use is compared now and then */
  costsOf(
    candidates: readonly Candidate[],
    { numRows, layOut, step }: { numRows: number; layOut: LayOut; step: number },
  ): StepCosts {
    let maxLength = 0;
    for (const { maxTokens } of candidates) maxLength = Math.max(maxLength, maxTokens);
    const callsMs = this.#pricerOf(layOut);
    const known: number[] = []; // by length
    const uniformAt = (length: number) => {
      known[length] ??= callsMs(Array<number>(numRows).fill(length));
      return known[length];
    };
    const plainMs = uniformAt(0);
    const drafter = this.#drafterOf(candidates, { numRows, plainMs, step });
    const proposer = drafter ?? 'draft';
    const draft = this.#drafterCosts(proposer, { maxLength, plainMs });
    const uniformMs = (length: number) => between(uniformAt, Math.min(length, maxLength));
    const runMs = (numDrafting: number) => this.#runMs(proposer, numDrafting, plainMs);
    return { numRows, maxLength, drafter, plainMs, callsMs, uniformMs, draft, runMs };
  }

  /** Prices calls of the target, each shape once. */
  #pricerOf(layOut: LayOut): (lengths: readonly number[]) => number {
    const msByShape = new Map<number, number>();
    return (lengths) => {
      let sumMs = 0;
      for (const call of layOut(lengths)) {
        const shape =
          (call.frozenCapacity * MAX_ROWS + call.numRows) * MAX_TOKENS + call.numNewTokens;
        let ms = msByShape.get(shape);
        if (ms === undefined) {
          ms = this.#target.estimate(call) ?? 1;
          msByShape.set(shape, ms);
        }
        sumMs += ms;
      }
      return sumMs;
    };
  }

  /** Whether drafts are to be staged: as it is cheaper, and now and then the other way. */
  #drafterOf(
    candidates: readonly Candidate[],
    { numRows, plainMs, step }: { numRows: number; plainMs: number; step: number },
  ): ModelProposer | null {
    const can = (proposer: ModelProposer) => candidates.some((each) => each.proposer === proposer);
    if (!can('draft')) return can('staged') ? 'staged' : null;
    if (!can('staged')) return 'draft';
    const msOf = (proposer: ModelProposer) =>
      this.#draftMs(proposer, { numRows, plainMs, length: COMPARED_LENGTH });
    const isCheaper = msOf('staged') < msOf('draft');
    return isCheaper === (step % COMPARE_EVERY !== 0) ? 'staged' : 'draft';
  }

  #drafterCosts(
    proposer: ModelProposer,
    { maxLength, plainMs }: { maxLength: number; plainMs: number },
  ): SearchCosts['draft'] {
    const known: { ms: number; longest: number }[][] = []; // by rows and length
    return (length, numRows) => {
      known[numRows] ??= Array.from(
        this.#acceptance.expectedDrafted('draft', maxLength, numRows),
        (longest) => ({
          ms: this.#draftMs(proposer, { numRows, plainMs, length: longest }),
          longest,
        }),
      );
      return known[numRows][length]!;
    };
  }

  /** What drafts of which the longest has `length` tokens take. */
  #draftMs(
    proposer: ModelProposer,
    { numRows, plainMs, length }: { numRows: number; plainMs: number; length: number },
  ): number {
    if (length === 0) return 0;
    const numRuns = Math.max(1, length * this.#runsPerToken[proposer]);
    const ms = this.#runs[proposer].estimate({ numRows, numNewTokens: numRuns });
    return ms ?? numRuns * PRIOR_RUN_COST * plainMs;
  }

  #runMs(proposer: ModelProposer, numRows: number, plainMs: number): number {
    const msOf = (length: number) => this.#draftMs(proposer, { numRows, plainMs, length });
    return Math.max(0, msOf(COMPARED_LENGTH) - msOf(1)) / (COMPARED_LENGTH - 1);
  }

  observeCall(cost: CallCost): void {
    this.#target.observe(cost);
  }

  /** @param maxLength the longest draft that was asked for */
  observeDraft(
    { numRows, numRuns, ms }: DraftCost,
    { proposer, maxLength }: { proposer: ModelProposer; maxLength: number },
  ): void {
    if (numRuns === 0) return;
    this.#runs[proposer].observe({ numRows, numNewTokens: numRuns, ms });
    if (proposer === 'draft') return;
    const longest = this.#acceptance.expectedDrafted('draft', maxLength, numRows)[maxLength]!;
    const surprise = numRuns / longest - this.#runsPerToken.staged;
    this.#runsPerToken.staged += RUNS_GAIN * surprise;
  }
}

/** A run more costs another of the first. */
const runCost = () => 1;

/** The value at a length between two. */
function between(valueAt: (length: number) => number, length: number): number {
  const below = Math.floor(length);
  if (below === length) return valueAt(length);
  const part = length - below;
  return (1 - part) * valueAt(below) + part * valueAt(below + 1);
}
