import type { TokenId } from '../../shared/ids.ts';
import type { LookupLimits, Proposal } from './proposer.ts';
import { type Match, SuffixAutomaton } from './suffix-automaton.ts';

/** Continuations of one match that are compared; the latest ones come first. */
const MAX_CONTINUATIONS = 64;

/**
 * A continuation that fewer earlier outputs took than this share of those that matched is not
 * drafted.
 */
const MIN_SHARE = 0.1;

/** Where a text that ends somewhere stands in outputs. Good until the next of them is added. */
export interface OutputPlace {
  readonly younger: Match;
  readonly older: Match;
}

/**
 * What one tenant's requests put out. The younger part fills while the older one is still looked up
 * in.
 */
export class TenantOutputs {
  readonly maxMatch: number;
  /** Raised with each output. */
  version = 0;
  readonly #maxTokens: number;
  #younger: SuffixAutomaton;
  #older: SuffixAutomaton;

  /** @param maxTokens of either part */
  constructor({ maxMatch, maxTokens }: { maxMatch: number; maxTokens: number }) {
    this.maxMatch = maxMatch;
    this.#maxTokens = maxTokens;
    this.#younger = new SuffixAutomaton(maxMatch);
    this.#older = new SuffixAutomaton(maxMatch);
  }

  get numBytes(): number {
    return this.#younger.numBytes + this.#older.numBytes;
  }

  /** @param separator negative and never the same twice: no match crosses it */
  add(tokenIds: readonly TokenId[], separator: TokenId): void {
    this.version += 1;
    const kept = tokenIds.slice(-(this.#maxTokens - 1)); // the end of one that is too long
    if (this.#younger.length + kept.length + 1 > this.#maxTokens) {
      this.#older = this.#younger;
      this.#younger = new SuffixAutomaton(this.maxMatch);
    }
    for (const tokenId of kept) this.#younger.add(tokenId);
    this.#younger.add(separator);
  }

  /** @param tokenIds of which the latest `maxMatch` make a difference */
  find(tokenIds: readonly TokenId[]): OutputPlace {
    let place: OutputPlace = { younger: this.#younger.start, older: this.#older.start };
    for (let i = Math.max(0, tokenIds.length - this.maxMatch); i < tokenIds.length; i += 1) {
      place = this.follow(place, tokenIds[i]!);
    }
    return place;
  }

  follow({ younger, older }: OutputPlace, tokenId: TokenId): OutputPlace {
    return {
      younger: this.#younger.follow(younger, tokenId),
      older: this.#older.follow(older, tokenId),
    };
  }

  /** @returns `null` when no suffix of `minMatch` tokens occurs in the outputs */
  propose({ younger, older }: OutputPlace, { minMatch, maxDraft }: LookupLimits): Proposal | null {
    const isOld = older.length > younger.length;
    const match = isOld ? older : younger;
    if (match.length === 0 || match.length < minMatch || maxDraft <= 0) return null;
    const tokenIds = likeliestPath(isOld ? this.#older : this.#younger, match, maxDraft);
    if (tokenIds.length === 0) return null;
    return { proposer: 'suffix', tokenIds, matchLength: match.length };
  }
}

/**
 * From a match on, always the token that followed most often, while enough of the matches took the
 * path.
 */
function likeliestPath(outputs: SuffixAutomaton, match: Match, maxDraft: number): TokenId[] {
  const tokenIds: TokenId[] = [];
  let share = 1;
  let place = match;
  while (tokenIds.length < maxDraft) {
    const tokenId = outputs.likeliestNext(place, MAX_CONTINUATIONS);
    if (tokenId === null) break;
    const next = outputs.follow(place, tokenId);
    // A match cut to its last tokens may have come more often than what it continues.
    share *= Math.min(1, outputs.count(next) / outputs.count(place));
    if (share < MIN_SHARE) break;
    tokenIds.push(tokenId);
    place = next;
  }
  return tokenIds;
}
