import type { DraftPlan, DraftPolicy, PolicyRow } from '../../worker/speculative/policy.ts';
import type { ProposerName } from '../../worker/speculative/proposer.ts';

/** The same length for all, from the first proposer on the list that has something. */
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
