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

/** One call of the target. */
export interface CallCost {
  readonly numRows: number;
  readonly numNewTokens: number;
  readonly ms: number;
}

/** What drafting with the draft model took in one step. */
export interface DraftCost {
  readonly numRows: number;
  readonly numRuns: number;
  readonly ms: number;
}

/** Decides what is drafted, and learns from what came of it. */
export interface DraftPolicy {
  /**
   * @param numOthers rows that decode in the same call and are not drafted for
   * @returns [rows.length] `null` to draft nothing
   */
  plan(rows: readonly PolicyRow[], numOthers?: number): readonly (DraftPlan | null)[];
  /** Whether a draft of this probability, by the draft model's own word, is worth going on with. */
  goesOn(cumulativeProbability: number): boolean;
  observeCall(cost: CallCost): void;
  observeDraft(cost: DraftCost): void;
  observeVerified(sequence: object, draft: VerifiedDraft & { readonly matchLength: number }): void;
  /**
   * Takes in what a sequence gained in a step, drafted or not: it tells whether a lookup would have
   * been right.
   */
  observeTaken(sequence: object, tokenIds: readonly TokenId[]): void;
  /** Takes in what the draft model said of a draft that was verified, after each token. */
  observeConfidence(cumulativeProbabilities: readonly number[], numAccepted: number): void;
}

/**
 * The same length for all, from the first proposer on the list that has something: for tests and
 * benchmarks.
 */
export class FixedPolicy implements DraftPolicy {
  readonly #proposers: readonly ProposerName[];
  readonly #numTokens: number;

  constructor(proposers: readonly ProposerName[], numTokens: number) {
    this.#proposers = proposers;
    this.#numTokens = numTokens;
  }

  plan(rows: readonly PolicyRow[]): (DraftPlan | null)[] {
    return rows.map(({ candidates }) => {
      for (const proposer of this.#proposers) {
        const candidate = candidates.find((each) => each.proposer === proposer);
        const numTokens = Math.min(this.#numTokens, candidate?.maxTokens ?? 0);
        if (numTokens > 0) return { proposer, numTokens };
      }
      return null;
    });
  }

  goesOn(): boolean {
    return true;
  }

  observeCall(): void {}
  observeDraft(): void {}
  observeVerified(): void {}
  observeTaken(): void {}
  observeConfidence(): void {}
}
