import type { TokenId } from '../../shared/ids.ts';
import type { ProposerName } from './proposer.ts';
import type { VerifiedDraft } from './tally.ts';

/** What a proposer could put forward for one sequence. */
export interface Candidate {
  readonly proposer: ProposerName;
  /** Longest draft it could give, at least 1. */
  readonly maxTokens: number;
  /** Length of the match that a lookup rests on; 0 where that means nothing. */
  readonly matchLength: number;
  /**
   * The tokens of a lookup, at least `maxTokens`, where they are known before anything is decided.
   */
  readonly tokenIds?: readonly TokenId[];
}

/** A decoding sequence, to the policy a name and what could be drafted for it. */
export interface PolicyRow {
  /** The same object at every step of the sequence. */
  readonly sequence: object;
  readonly candidates: readonly Candidate[];
}

/** Draft so many tokens with that proposer. */
export interface DraftPlan {
  readonly proposer: ProposerName;
  readonly numTokens: number;
}

/** A call of the target, as far as its cost depends on it. */
export interface TargetCall {
  readonly numRows: number;
  /** Tokens of each row, padding included. */
  readonly numNewTokens: number;
  /** Columns of frozen keys that each row is read with. */
  readonly frozenCapacity: number;
}

/** What a call took in which all rows decoded. */
export interface CallCost extends TargetCall {
  readonly ms: number;
}

/**
 * The calls that a step makes when so many tokens are drafted for each of its rows.
 *
 * @param lengths [rows.length]
 */
export type LayOut = (lengths: readonly number[]) => readonly TargetCall[];

/** The step that drafts are verified in. */
export interface PolicyStep {
  /** Rows that decode in it and are not drafted for. */
  readonly numOthers: number;
  readonly layOut: LayOut;
}

/** What drafting with the draft model took in one step. */
export interface DraftCost {
  readonly numRows: number;
  readonly numRuns: number;
  readonly ms: number;
}

/** A verified draft, as far as it says something. */
export interface ComparedDraft extends VerifiedDraft {
  readonly matchLength: number;
  /** Tokens that the target chose one for: all until the first that it rejected, or its end. */
  readonly numCompared: number;
}

/** Decides what is drafted, and learns from what came of it. */
export interface DraftPolicy {
  /** @returns [rows.length] `null` to draft nothing */
  plan(rows: readonly PolicyRow[], step: PolicyStep): readonly (DraftPlan | null)[];
  /** Whether a draft of this probability, by the draft model's own word, is worth going on with. */
  goesOn(cumulativeProbability: number): boolean;
  observeCall(cost: CallCost): void;
  observeDraft(cost: DraftCost): void;
  observeVerified(sequence: object, draft: ComparedDraft): void;
  /**
   * Takes in what a sequence gained in a step, drafted or not: it tells whether a lookup would have
   * been right.
   */
  observeTaken(sequence: object, tokenIds: readonly TokenId[]): void;
  /** Takes in what the draft model said of a draft that was verified, after each token. */
  observeConfidence(cumulativeProbabilities: readonly number[], numAccepted: number): void;
}
