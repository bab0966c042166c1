import type { TokenId } from '../../shared/ids.ts';
import type { LookupLimits, Proposal } from './proposer.ts';
import { type Match, SuffixAutomaton } from './suffix-automaton.ts';

export interface SuffixIndexOptions {
  /** Longest suffix that is told from another. */
  readonly maxMatch: number;
  /** Tokens remembered; of a longer sequence, the latest half to whole of it. */
  readonly maxTokens: number;
}

const DEFAULTS: SuffixIndexOptions = { maxMatch: 32, maxTokens: 32_768 };

/**
 * Proposes what followed the last time the sequence ended as it ends now: the longest suffix, up to
 * `maxMatch`, that occurs earlier, and of its occurrences the latest. A continuation that reaches
 * the end of the sequence goes on with itself, as periodic text does.
 *
 * [1, 2, 3, 4, 2, 3] ends in [2, 3], seen at index 1, so [4, 2, 3], and then [4, 2, 3] again,
 * follow.
 *
 * Saxena, "Prompt Lookup Decoding", 2023.
 */
export class SuffixIndex {
  readonly #options: SuffixIndexOptions;
  #automaton: SuffixAutomaton;

  constructor(tokenIds: Iterable<TokenId> = [], options: Partial<SuffixIndexOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options };
    this.#automaton = new SuffixAutomaton(this.#options.maxMatch);
    for (const tokenId of tokenIds) this.add(tokenId);
  }

  add(tokenId: TokenId): void {
    if (this.#automaton.length >= this.#options.maxTokens) this.#forgetHalf();
    this.#automaton.add(tokenId);
  }

  #forgetHalf(): void {
    const old = this.#automaton;
    this.#automaton = new SuffixAutomaton(this.#options.maxMatch);
    for (let i = Math.ceil(old.length / 2); i < old.length; i += 1) {
      this.#automaton.add(old.tokenAt(i));
    }
  }

  /** @returns `null` when no suffix of `minMatch` tokens repeats */
  propose({ minMatch, maxDraft }: LookupLimits): Proposal | null {
    const { repeat, repeatEnd } = this.#automaton;
    if (repeat.length === 0 || repeat.length < minMatch || maxDraft <= 0) return null;
    const tokenIds = continuation(this.#automaton, [], { end: repeatEnd, maxDraft });
    return { proposer: 'ngram', tokenIds, matchLength: repeat.length };
  }

  /** A place to look up from after tokens that are drafted and may never be added. */
  cursor(): SuffixCursor {
    return new SuffixCursor(this.#automaton, this);
  }
}

/**
 * Looks up after the sequence and drafted tokens, leaving the index as it is. Good until its next
 * `add`.
 */
export class SuffixCursor {
  readonly #automaton: SuffixAutomaton;
  readonly #index: SuffixIndex;
  readonly #drafted: TokenId[] = [];
  #match: Match;

  constructor(automaton: SuffixAutomaton, index: SuffixIndex) {
    this.#automaton = automaton;
    this.#index = index;
    this.#match = automaton.end;
  }

  advance(tokenId: TokenId): void {
    this.#match = this.#automaton.follow(this.#match, tokenId);
    this.#drafted.push(tokenId);
  }

  /** @returns `null` when no suffix of `minMatch` tokens occurs in the sequence */
  propose({ minMatch, maxDraft }: LookupLimits): Proposal | null {
    if (this.#drafted.length === 0) return this.#index.propose({ minMatch, maxDraft });
    const { length } = this.#match;
    if (length === 0 || length < minMatch || maxDraft <= 0) return null;
    const end = this.#automaton.latestEnd(this.#match);
    const tokenIds = continuation(this.#automaton, this.#drafted, { end, maxDraft });
    return { proposer: 'ngram', tokenIds, matchLength: length };
  }
}

/**
 * What follows `end` in the text, the drafted tokens after it, and then the continuation itself.
 */
function continuation(
  text: SuffixAutomaton,
  drafted: readonly TokenId[],
  { end, maxDraft }: { end: number; maxDraft: number },
): TokenId[] {
  const tokenIds: TokenId[] = [];
  for (let i = end; i < end + maxDraft; i += 1) {
    const afterText = i - text.length;
    if (afterText < 0) tokenIds.push(text.tokenAt(i));
    else tokenIds.push(drafted[afterText] ?? tokenIds[afterText - drafted.length]!);
  }
  return tokenIds;
}
