import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';

export interface LookaheadShape {
  /** W: columns, how far ahead the guesses reach. */
  readonly numColumns: number;
  /** N: tokens of an n-gram; the window keeps the guesses of the last N - 1 iterations. */
  readonly ngramLength: number;
}

/**
 * Tokens to run beside the pending token, which is at offset 0. All of them see the whole sequence
 * and the pending token, never a draft, and are never seen by either. Level by level, oldest first.
 */
export interface SideTokens {
  readonly tokenIds: readonly TokenId[]; // [numSide]
  /** Positions after that of the pending token, 1 and up; several tokens may share one. */
  readonly offsets: readonly number[]; // [numSide]
  /**
   * Which side tokens each may see, itself included: ascending indices, and one for each offset up
   * to its own.
   */
  readonly visible: readonly (readonly number[])[]; // [numSide]
  /** The first of the tokens whose successors `take` wants; it wants those of all from there on. */
  readonly firstWanted: number;
}

/** A guess, and the iterations since its column was filled. */
interface Column {
  /** Oldest first, at consecutive offsets: a stretch of the Jacobi trajectory. [numLevels] */
  readonly tokenIds: TokenId[];
  numGuessed: number;
}

/**
 * The window of lookahead decoding: guesses of tokens that are not decided yet, each made from
 * those of earlier iterations. The guess of level l in column c is for offset c + 1 + l. It sees
 * the oldest level up to its column and then its own column: with W = 5 and N = 4, the newest guess
 * for offset 6 sees the middle one for 5, the oldest ones for 1 to 4 and the pending token.
 *
 * Each iteration adds a newest level, which ends an n-gram in each column, and drops the oldest.
 *
 * Fu, Bailis, Stoica, Zhang, "Break the Sequential Dependency of LLM Inference Using Lookahead
 * Decoding", arXiv:2402.02057, section 3 and figure 3.
 */
export class LookaheadWindow {
  readonly #shape: LookaheadShape;
  readonly #fillers: readonly TokenId[];
  readonly #masks = new Map<number, Pick<SideTokens, 'offsets' | 'visible'>>();
  #columns: Column[];
  #numLevels = 1;
  #numFilled = 0;

  /**
   * @param fillers what columns hold before anything is guessed for them: tokens of the prompt, say
   */
  constructor(shape: LookaheadShape, fillers: readonly TokenId[]) {
    invariant(shape.numColumns >= 1 && shape.ngramLength >= 2, 'a window has columns and levels');
    invariant(fillers.length > 0, 'a window is filled with tokens');
    this.#shape = shape;
    this.#fillers = fillers;
    this.#columns = Array.from({ length: shape.numColumns }, () => this.#filledColumn());
  }

  sideTokens(): SideTokens {
    const tokenIds: TokenId[] = [];
    for (let level = 0; level < this.#numLevels; level += 1) {
      for (const column of this.#columns) tokenIds.push(column.tokenIds[level]!);
    }
    const firstWanted = tokenIds.length - this.#shape.numColumns;
    return { tokenIds, firstWanted, ...this.#mask() };
  }

  /**
   * Takes what the model chose after the newest level, and moves on with the sequence.
   *
   * @param nextTokenIds [numColumns], the successors of the side tokens from `firstWanted` on
   * @param numTaken tokens that the sequence gained in the same step: 1, and 1 for each accepted
   *   draft
   * @returns the n-grams that were completed
   */
  take(nextTokenIds: readonly TokenId[], numTaken: number): TokenId[][] {
    invariant(nextTokenIds.length === this.#columns.length, 'one token for each column');
    const ngrams: TokenId[][] = [];
    const { ngramLength } = this.#shape;
    for (const [c, column] of this.#columns.entries()) {
      column.tokenIds.push(nextTokenIds[c]!);
      column.numGuessed += 1;
      // A column that was filled on the way holds no n-gram until its guesses stand on each other.
      if (column.numGuessed >= ngramLength - 1) ngrams.push(column.tokenIds.slice(-ngramLength));
    }
    this.#numLevels += 1;
    this.#advance(numTaken);
    return ngrams;
  }

  #advance(numTaken: number): void {
    let numPassed = numTaken;
    if (this.#numLevels === this.#shape.ngramLength) {
      for (const column of this.#columns) column.tokenIds.shift();
      this.#numLevels -= 1;
      numPassed -= 1; // without its oldest level, the window already stands one token on
    }
    this.#columns = this.#columns.slice(numPassed);
    while (this.#columns.length < this.#shape.numColumns) this.#columns.push(this.#filledColumn());
  }

  #filledColumn(): Column {
    const tokenIds: TokenId[] = [];
    for (let level = 0; level < this.#numLevels; level += 1) {
      tokenIds.push(this.#fillers[this.#numFilled % this.#fillers.length]!);
      this.#numFilled += 1;
    }
    return { tokenIds, numGuessed: 0 };
  }

  /** The same for all windows with as many levels. */
  #mask(): Pick<SideTokens, 'offsets' | 'visible'> {
    const known = this.#masks.get(this.#numLevels);
    if (known !== undefined) return known;

    const { numColumns } = this.#shape;
    const offsets: number[] = [];
    const visible: number[][] = [];
    for (let level = 0; level < this.#numLevels; level += 1) {
      for (let c = 0; c < numColumns; c += 1) {
        offsets.push(c + 1 + level);
        const oldest = Array.from({ length: c + 1 }, (_, i) => i);
        const column = Array.from({ length: level }, (_, i) => (i + 1) * numColumns + c);
        visible.push([...oldest, ...column]);
      }
    }
    const mask = { offsets, visible };
    this.#masks.set(this.#numLevels, mask);
    return mask;
  }
}
