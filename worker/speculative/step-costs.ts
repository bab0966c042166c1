import { type AcceptanceModel, MAX_PLACES } from './acceptance.ts';
import { CallCosts, MachineSpeed } from './call-costs.ts';
import { msBetween, type SearchCosts } from './plan-search.ts';
import type { CallCost, Candidate, DraftCost } from './policy.ts';
import type { ProposerName } from './proposer.ts';

/** Proposers that take runs of the draft model. */
export type ModelProposer = Extract<ProposerName, 'draft' | 'staged'>;

export function isModel(proposer: ProposerName): proposer is ModelProposer {
  return proposer === 'draft' || proposer === 'staged';
}

/** Calls of a shape before what is said of it goes without doubt. */
const ENOUGH_CALLS = 3;
/** Steps after which staged drafting is compared with unstaged again. */
const COMPARE_EVERY = 50;
/** A run of the draft model, as a part of the target's, before any was measured. */
const PRIOR_RUN_COST = 0.15;
/** Runs for each token that staged drafting is assumed to take, and how fast it learns better. */
const PRIOR_STAGED_RUNS = 0.8;
const RUNS_GAIN = 0.1;

/** What the choices of one step cost. */
export interface StepCosts extends SearchCosts {
  readonly numRows: number;
  /** Who drafts where the draft model does; `null` where it cannot. */
  readonly drafter: ModelProposer | null;
  /** A token more of the longest draft. */
  tokenMs(numDrafting: number): number;
}

/** Whether drafts of some length would pay, if every row had this many accepted of each length. */
export function wouldPay({ callMs, numRows, draft }: StepCosts, expected: Float64Array): boolean {
  for (let length = 1; length < callMs.length; length += 1) {
    const { ms, longest } = draft(length, numRows);
    const stepMs = ms + msBetween(callMs, longest);
    if ((1 + expected[length]!) / stepMs > 1 / callMs[0]!) return true;
  }
  return false;
}

/**
 * What steps cost on this machine: calls of the target, and runs of the draft model, staged or not.
 */
export class StepCostModel {
  readonly #acceptance: AcceptanceModel;
  readonly #target: CallCosts;
  readonly #runs: Readonly<Record<ModelProposer, CallCosts>>;
  /** Runs of the draft model for each token of the longest draft. */
  readonly #runsPerToken = { draft: 1, staged: PRIOR_STAGED_RUNS };

  constructor(acceptance: AcceptanceModel) {
    const speed = new MachineSpeed();
    this.#acceptance = acceptance;
    this.#target = new CallCosts(speed);
    this.#runs = { draft: new CallCosts(speed), staged: new CallCosts(speed) };
  }

  /** Whether it is known what a step without drafts costs. */
  knowsPlainStep(numRows: number): boolean {
    return this.#target.numCalls({ numRows, numNewTokens: 1 }) >= ENOUGH_CALLS;
  }

  /** @param step counts on, so that what is not in use is compared now and then */
  costsOf(candidates: readonly Candidate[], numRows: number, step: number): StepCosts {
    let maxLength = 0;
    for (const { maxTokens } of candidates) maxLength = Math.max(maxLength, maxTokens);
    const callMs = new Float64Array(maxLength + 1);
    for (let length = 0; length <= maxLength; length += 1) {
      callMs[length] = this.#target.estimate({ numRows, numNewTokens: 1 + length }) ?? 1;
    }
    const drafter = this.#drafterOf(candidates, numRows, step);
    const known: { tokenMs: number; longest: Float64Array }[] = []; // by rows
    const knownOf = (numDrafting: number) => {
      known[numDrafting] ??= {
        tokenMs: this.#tokenMs(drafter ?? 'draft', numDrafting, callMs[0]!),
        longest: this.#acceptance.expectedDrafted('draft', maxLength, numDrafting),
      };
      return known[numDrafting];
    };
    const draft = (length: number, numDrafting: number) => {
      const { tokenMs, longest } = knownOf(numDrafting);
      return { ms: longest[length]! * tokenMs, longest: longest[length]! };
    };
    return { callMs, draft, numRows, drafter, tokenMs: (rows) => knownOf(rows).tokenMs };
  }

  /** Whether drafts are to be staged: as it is cheaper, and now and then the other way. */
  #drafterOf(
    candidates: readonly Candidate[],
    numRows: number,
    step: number,
  ): ModelProposer | null {
    const can = (proposer: ModelProposer) => candidates.some((each) => each.proposer === proposer);
    if (!can('draft')) return can('staged') ? 'staged' : null;
    if (!can('staged')) return 'draft';
    const isCheaper = this.#tokenMs('staged', numRows, 1) < this.#tokenMs('draft', numRows, 1);
    return isCheaper === (step % COMPARE_EVERY !== 0) ? 'staged' : 'draft';
  }

  #tokenMs(proposer: ModelProposer, numRows: number, targetMs: number): number {
    const shape = { numRows, numNewTokens: 1 };
    const runMs =
      this.#runs[proposer].estimate(shape) ??
      this.#runs.draft.estimate(shape) ??
      PRIOR_RUN_COST * targetMs;
    return runMs * this.#runsPerToken[proposer];
  }

  observeCall(cost: CallCost): void {
    if (cost.numNewTokens > 1 + MAX_PLACES) return; // part of a prompt
    this.#target.observe(cost);
  }

  /** @param maxLength the longest draft that was asked for */
  observeDraft(
    { numRows, numRuns, ms }: DraftCost,
    { proposer, maxLength }: { proposer: ModelProposer; maxLength: number },
  ): void {
    if (numRuns === 0) return;
    this.#runs[proposer].observe({ numRows, numNewTokens: 1, ms: ms / numRuns });
    if (proposer === 'draft') return;
    const longest = this.#acceptance.expectedDrafted('draft', maxLength, numRows)[maxLength]!;
    const surprise = numRuns / longest - this.#runsPerToken.staged;
    this.#runsPerToken.staged += RUNS_GAIN * surprise;
  }
}
