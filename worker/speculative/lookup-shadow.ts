import type { TokenId } from '../../shared/ids.ts';
import type { DraftOutcome } from './acceptance.ts';
import type { ProposerName } from './proposer.ts';

/** A lookup that is not drafted but watched. */
interface Watched {
  readonly proposer: ProposerName;
  readonly matchLength: number;
  readonly tokenIds: readonly TokenId[];
  numMatched: number;
}

/**
 * Watches lookups that were not drafted, for whether they would have been right: their tokens are
 * known, so learning what they are worth costs nothing. One at a time for each proposer.
 */
export class LookupShadow {
  readonly #watchedByProposer = new Map<ProposerName, Watched>();

  watch(lookup: Omit<Watched, 'numMatched'>): void {
    if (this.#watchedByProposer.has(lookup.proposer)) return;
    this.#watchedByProposer.set(lookup.proposer, { ...lookup, numMatched: 0 });
  }

  /** Stops watching a proposer whose own draft is verified. */
  drop(proposer: ProposerName): void {
    this.#watchedByProposer.delete(proposer);
  }

  /**
   * Takes in what the sequence gained. @returns what became of the lookups that are decided by it
   */
  take(tokenIds: readonly TokenId[]): DraftOutcome[] {
    const outcomes: DraftOutcome[] = [];
    for (const watched of this.#watchedByProposer.values()) {
      for (const tokenId of tokenIds) {
        if (watched.tokenIds[watched.numMatched] !== tokenId) {
          outcomes.push(this.#decide(watched));
          break;
        }
        watched.numMatched += 1;
        if (watched.numMatched < watched.tokenIds.length) continue;
        outcomes.push(this.#decide(watched));
        break;
      }
    }
    return outcomes;
  }

  #decide({ proposer, matchLength, tokenIds, numMatched }: Watched): DraftOutcome {
    this.#watchedByProposer.delete(proposer);
    const numDrafted = tokenIds.length;
    const numCompared = Math.min(numMatched + 1, numDrafted);
    const drafted = { numPlanned: numDrafted, numDrafted, numCompared, numAccepted: numMatched };
    return { proposer, matchLength, ...drafted };
  }
}
