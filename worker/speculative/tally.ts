import type { ProposerStats } from '../../shared/protocol/event.ts';
import type { ProposerName } from './proposer.ts';

/** A verified draft. */
export interface VerifiedDraft {
  readonly proposer: ProposerName;
  readonly numDrafted: number;
  readonly numAccepted: number;
}

/** Counts what each proposer put forward and what was kept, for those who watch. */
export class DraftTally {
  readonly #statsByProposer = new Map<
    ProposerName,
    { numDrafts: number; numDraftTokens: number; numAcceptedPerPosition: number[] }
  >();

  add({ proposer, numDrafted, numAccepted }: VerifiedDraft): void {
    const stats = this.#statsByProposer.get(proposer) ?? {
      numDrafts: 0,
      numDraftTokens: 0,
      numAcceptedPerPosition: [],
    };
    this.#statsByProposer.set(proposer, stats);
    stats.numDrafts += 1;
    stats.numDraftTokens += numDrafted;
    for (let i = 0; i < numDrafted; i += 1) {
      stats.numAcceptedPerPosition[i] =
        (stats.numAcceptedPerPosition[i] ?? 0) + (i < numAccepted ? 1 : 0);
    }
  }

  merge(other: DraftTally): void {
    for (const { proposer, numDrafts, numDraftTokens, numAcceptedPerPosition } of other.stats) {
      const stats = this.#statsByProposer.get(proposer) ?? {
        numDrafts: 0,
        numDraftTokens: 0,
        numAcceptedPerPosition: [],
      };
      this.#statsByProposer.set(proposer, stats);
      stats.numDrafts += numDrafts;
      stats.numDraftTokens += numDraftTokens;
      for (const [i, count] of numAcceptedPerPosition.entries()) {
        stats.numAcceptedPerPosition[i] = (stats.numAcceptedPerPosition[i] ?? 0) + count;
      }
    }
  }

  get stats(): (ProposerStats & { readonly proposer: ProposerName })[] {
    return Array.from(this.#statsByProposer, ([proposer, stats]) => ({
      proposer,
      numDrafts: stats.numDrafts,
      numDraftTokens: stats.numDraftTokens,
      numAcceptedPerPosition: [...stats.numAcceptedPerPosition],
    }));
  }

  get numAccepted(): number {
    return this.stats
      .flatMap(({ numAcceptedPerPosition }) => numAcceptedPerPosition)
      .reduce((sum, count) => sum + count, 0);
  }

  get numDrafted(): number {
    return this.stats.reduce((sum, { numDraftTokens }) => sum + numDraftTokens, 0);
  }
}
