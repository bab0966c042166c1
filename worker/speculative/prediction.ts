import type { TokenId } from '../../shared/ids.ts';
import type { Proposal } from './proposer.ts';
import { type Match, SuffixAutomaton } from './suffix-automaton.ts';

/** Tokens in a row that must match before the output counts as back in step with the prediction. */
const CONFIDENT_RUN = 4;

/** Latest output tokens that are compared when looking for the place again. */
const MAX_CONTEXT = 8;

/** How far around the place where the output left the prediction it is looked for, in tokens. */
const REACH_BACK = 16;
const REACH_AHEAD = 96;
const MAX_DRIFT = 128;

/** A match of this length is believed wherever in the prediction it is. */
const FAR_MATCH = 4;
const MAX_FAR_MATCH = 32;

/**
 * Follows a predicted output for as long as the output does. Where they part, looks for the place
 * at which the prediction goes on as the output now ends: nearby for a short match, since edits are
 * local, farther away for a longer one, and anywhere for a long one. Until it is found, as many
 * tokens of the prediction as of the output are taken for replaced.
 *
 * With the prediction [1, 2, 3, 4, 5] and the output 1, 2, 9: [4, 5] follows, 9 taken for a
 * replaced 3. If 3 comes next, 9 was inserted: [4, 5]. After 1, 2, 4 the 3 is gone: [5].
 */
export class Prediction {
  readonly #tokenIds: readonly TokenId[];
  readonly #automaton = new SuffixAutomaton(MAX_FAR_MATCH);
  readonly #context: TokenId[] = []; // the latest output tokens, oldest first
  #match: Match;
  /** Index of the predicted token that comes next, if the output follows. */
  #place = 0;
  /** Output tokens before it that matched without a break. */
  #run = 0;
  /** Where the two were in step last, and the output tokens since. */
  #partedAt = 0;
  #numSince = 0;

  constructor(tokenIds: readonly TokenId[]) {
    this.#tokenIds = tokenIds;
    for (const tokenId of tokenIds) this.#automaton.add(tokenId);
    this.#match = this.#automaton.start;
  }

  /** Takes in the next output token. */
  add(tokenId: TokenId): void {
    this.#match = this.#automaton.follow(this.#match, tokenId);
    this.#context.push(tokenId);
    if (this.#context.length > MAX_CONTEXT) this.#context.shift();
    this.#numSince += 1;
    if (this.#tokenIds[this.#place] === tokenId) {
      this.#place += 1;
      this.#run += 1;
    } else {
      this.#resynchronize();
    }
    if (this.#run < CONFIDENT_RUN) return;
    this.#partedAt = this.#place;
    this.#numSince = 0;
  }

  /** @returns `null` when the prediction is at its end */
  propose(maxDraft: number): Proposal | null {
    const tokenIds = this.#tokenIds.slice(this.#place, this.#place + Math.max(0, maxDraft));
    if (tokenIds.length === 0) return null;
    return { proposer: 'prediction', tokenIds, matchLength: this.#run };
  }

  #resynchronize(): void {
    const near = this.#findNear();
    if (this.#match.length >= FAR_MATCH && this.#match.length > near.run) {
      this.#place = this.#automaton.latestEnd(this.#match);
      this.#run = this.#match.length;
    } else {
      this.#place = near.place;
      this.#run = near.run;
    }
  }

  /**
   * The best place around where the two parted: the longest match, and of equal ones the nearest.
   */
  #findNear(): { place: number; run: number } {
    const drift = Math.min(this.#numSince, MAX_DRIFT);
    let best = { place: this.#partedAt + this.#numSince, run: 0 };
    let bestDistance = Infinity;
    const start = Math.max(1, this.#partedAt - REACH_BACK);
    const end = Math.min(this.#tokenIds.length, this.#partedAt + drift + REACH_AHEAD) + 1;
    for (let place = start; place < end; place += 1) {
      const run = this.#runBefore(place);
      if (run === 0 || run < best.run) continue;
      // All of the output since was inserted.
      const sinceParted = Math.abs(place - this.#partedAt - 1);
      const sinceReplaced = Math.abs(place - this.#partedAt - drift);
      const distance = Math.min(sinceParted, sinceReplaced);
      if (distance > 4 ** run) continue;
      if (run === best.run && distance >= bestDistance) continue;
      best = { place, run };
      bestDistance = distance;
    }
    return best;
  }

  /** How many of the latest output tokens the prediction has before `place`. */
  #runBefore(place: number): number {
    const context = this.#context;
    let run = 0;
    while (
      run < context.length &&
      run < place &&
      this.#tokenIds[place - 1 - run] === context[context.length - 1 - run]
    ) {
      run += 1;
    }
    return run;
  }
}
