import type { ProposerStats } from '../../shared/protocol/event.ts';
import type { ProposerName } from './proposer.ts';

/** A verified draft. */
export interface VerifiedDraft {
  readonly proposer: ProposerName;
  readonly numDrafted: number;
  readonly numAccepted: number;
}

interface Counts {
  numDrafts: number;
  numDraftTokens: number;
  readonly numAcceptedPerPosition: number[];
}

/** Counts what each proposer put forward and what was kept, for those who watch. */
export class DraftTally {
  readonly #countsByProposer = new Map<ProposerName, Counts>();

  add({ proposer, numDrafted, numAccepted }: VerifiedDraft): void {
    const numAcceptedPerPosition = Array.from({ length: numDrafted }, (_, i) =>
      i < numAccepted ? 1 : 0,
    );
    this.#count(proposer, { numDrafts: 1, numDraftTokens: numDrafted, numAcceptedPerPosition });
  }

  merge(other: DraftTally): void {
    for (const [proposer, counts] of other.#countsByProposer) this.#count(proposer, counts);
  }

  #count(proposer: ProposerName, more: Counts): void {
    const counts = this.#countsByProposer.get(proposer) ?? {
      numDrafts: 0,
      numDraftTokens: 0,
      numAcceptedPerPosition: [],
    };
    this.#countsByProposer.set(proposer, counts);
    counts.numDrafts += more.numDrafts;
    counts.numDraftTokens += more.numDraftTokens;
    for (const [i, count] of more.numAcceptedPerPosition.entries()) {
      counts.numAcceptedPerPosition[i] = (counts.numAcceptedPerPosition[i] ?? 0) + count;
    }
  }

  get stats(): ProposerStats[] {
    return Array.from(this.#countsByProposer, ([proposer, counts]) => ({
      proposer,
      numDrafts: counts.numDrafts,
      numDraftTokens: counts.numDraftTokens,
      numAcceptedPerPosition: [...counts.numAcceptedPerPosition],
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
