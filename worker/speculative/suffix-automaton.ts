import type { TokenId } from '../../shared/ids.ts';
import { EdgeTable } from './edge-table.ts';
import { grown } from './growable.ts';

/**
 * Where the longest known match of some text's end stands. Good until the automaton's next `add`.
 */
export interface Match {
  readonly state: number;
  /** Tokens that match, up to the automaton's `maxMatch`. */
  readonly length: number;
}

const NONE = -1;
const ROOT = 0;

/**
 * Every substring of a text that grows by one token at a time, and for those of up to `maxMatch`
 * tokens, where they ended last and how often they came. A state stands for the substrings that end
 * at the same places; its link leads to that of the longest suffix that also ends elsewhere.
 *
 * A token takes amortized constant time, plus at most `maxMatch` updates along the links. Negative
 * tokens that are all different part documents: no match crosses them.
 *
 * Blumer et al., "The Smallest Automaton Recognizing the Subwords of a Text", 1985.
 */
export class SuffixAutomaton {
  readonly #maxMatch: number;
  readonly #edges = new EdgeTable();
  #text = new Int32Array(64); // [length], then room to grow
  #lengths = new Int32Array(128); // [numStates], of the longest substring of each
  #links = new Int32Array(128);
  #latestEnds = new Int32Array(128); // 0 for none
  #counts = new Int32Array(128);
  #length = 0;
  #numStates = 1;
  #last = ROOT;
  // The suffix of at most `maxMatch + 1` tokens: one more than is asked for, to know what follows a
  // match.
  #suffix: Match = { state: ROOT, length: 0 };
  #repeat: Match = { state: ROOT, length: 0 };
  #repeatEnd = 0;

  constructor(maxMatch: number) {
    this.#maxMatch = maxMatch;
    this.#links[ROOT] = NONE;
  }

  get length(): number {
    return this.#length;
  }

  /** Memory held, near enough. */
  get numBytes(): number {
    return this.#text.byteLength + 4 * this.#lengths.byteLength + this.#edges.numBytes;
  }

  tokenAt(i: number): TokenId {
    return this.#text[i]!;
  }

  /** The longest suffix of the text that occurs earlier in it; length 0 for none. */
  get repeat(): Match {
    return this.#repeat;
  }

  /** Where that suffix ended the time before. */
  get repeatEnd(): number {
    return this.#repeatEnd;
  }

  /** The empty match, to `follow` any text from. */
  get start(): Match {
    return { state: ROOT, length: 0 };
  }

  /** The text's own end, as a place to `follow` further tokens from. */
  get end(): Match {
    return this.#shortened(this.#suffix, this.#maxMatch);
  }

  /** Where a matched substring ended last: the index of the token after it. */
  latestEnd({ state }: Match): number {
    return this.#latestEnds[state]!;
  }

  /** How often a matched substring came. */
  count({ state }: Match): number {
    return this.#counts[state]!;
  }

  add(tokenId: TokenId): void {
    this.#text = grown(this.#text, this.#length + 1);
    this.#text[this.#length] = tokenId;
    this.#length += 1;

    const current = this.#addState(this.#lengths[this.#last]! + 1);
    let state = this.#last;
    while (state !== NONE && this.#edges.target(state, tokenId) === NONE) {
      this.#edges.add(state, tokenId, current);
      state = this.#links[state]!;
    }
    const link = state === NONE ? ROOT : this.#ending(state, tokenId); // may replace the arrays
    this.#links[current] = link;
    this.#last = current;
    this.#extendSuffix(tokenId);
    this.#visitSuffixes();
  }

  /** The longest suffix of a match and a token after it that the text contains. */
  follow({ state, length }: Match, tokenId: TokenId): Match {
    for (;;) {
      const target = this.#edges.target(state, tokenId);
      if (target !== NONE) {
        return this.#shortened({ state: target, length: length + 1 }, this.#maxMatch);
      }
      if (state === ROOT) return { state, length: 0 };
      state = this.#links[state]!;
      length = this.#lengths[state]!;
    }
  }

  /**
   * The token that followed a match most often, of equal ones the latest; `null` when no document
   * goes on. Looks at the `maxEdges` latest to have come first.
   */
  likeliestNext({ state }: Match, maxEdges: number): TokenId | null {
    let best: TokenId | null = null;
    let bestCount = 0;
    let bestEnd = 0;
    let edge = this.#edges.first(state);
    for (let i = 0; i < maxEdges && edge !== NONE; i += 1) {
      const tokenId = this.#edges.tokenOf(edge);
      const target = this.#edges.targetOf(edge);
      const count = this.#counts[target]!;
      const end = this.#latestEnds[target]!;
      edge = this.#edges.next(edge);
      if (tokenId < 0 || count < bestCount || (count === bestCount && end < bestEnd)) continue;
      best = tokenId;
      bestCount = count;
      bestEnd = end;
    }
    return best;
  }

  #addState(length: number): number {
    const state = this.#numStates;
    this.#numStates += 1;
    this.#lengths = grown(this.#lengths, this.#numStates);
    this.#links = grown(this.#links, this.#numStates);
    this.#latestEnds = grown(this.#latestEnds, this.#numStates);
    this.#counts = grown(this.#counts, this.#numStates);
    this.#lengths[state] = length;
    return state;
  }

  /**
   * The state whose longest substring is that of `state` and the token; split off where there is
   * none.
   */
  #ending(state: number, tokenId: TokenId): number {
    const target = this.#edges.target(state, tokenId);
    const length = this.#lengths[state]! + 1;
    if (this.#lengths[target] === length) return target;

    const clone = this.#addState(length);
    this.#edges.copy(target, clone);
    this.#links[clone] = this.#links[target]!;
    this.#latestEnds[clone] = this.#latestEnds[target]!;
    this.#counts[clone] = this.#counts[target]!;
    this.#links[target] = clone;
    for (
      let from = state;
      from !== NONE && this.#edges.redirect(from, tokenId, target, clone);
      from = this.#links[from]!
    );
    return clone;
  }

  #extendSuffix(tokenId: TokenId): void {
    // Its state may have been split; it still is that of a suffix, and the links lead to the right
    // one.
    const { state, length } = this.#suffix;
    const extended = { state: this.#edges.target(state, tokenId), length: length + 1 };
    this.#suffix = this.#shortened(extended, this.#maxMatch + 1);
  }

  #shortened({ state, length }: Match, maxLength: number): Match {
    const shortened = Math.min(length, maxLength);
    let shorter = state;
    while (shorter !== ROOT && this.#lengths[this.#links[shorter]!]! >= shortened) {
      shorter = this.#links[shorter]!;
    }
    return { state: shorter, length: shortened };
  }

  /** Notes that every suffix ends here, and which of them is the longest that has ended before. */
  #visitSuffixes(): void {
    this.#repeat = { state: ROOT, length: 0 };
    for (let state = this.#suffix.state; state !== ROOT; state = this.#links[state]!) {
      const earlierEnd = this.#latestEnds[state]!;
      if (earlierEnd !== 0 && this.#repeat.length === 0) {
        const isTooLong = this.#lengths[this.#links[state]!]! >= this.#maxMatch;
        if (!isTooLong) {
          const length = Math.min(this.#suffix.length, this.#lengths[state]!, this.#maxMatch);
          this.#repeat = { state, length };
          this.#repeatEnd = earlierEnd;
        }
      }
      this.#latestEnds[state] = this.#length;
      this.#counts[state]! += 1;
    }
  }
}
