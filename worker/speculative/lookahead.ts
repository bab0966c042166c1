import type { TokenId } from '../../shared/ids.ts';
import { type LookaheadShape, LookaheadWindow, type SideTokens } from './lookahead-window.ts';
import { NgramPool } from './ngram-pool.ts';
import type { Proposal } from './proposer.ts';

export interface LookaheadOptions extends LookaheadShape {
  readonly maxNgrams: number;
}

/** Small, since side tokens cost nearly what drafted ones do. */
const DEFAULTS: LookaheadOptions = { numColumns: 5, ngramLength: 4, maxNgrams: 4096 };

/**
 * Lookahead decoding of one sequence: no draft model, but side tokens beside the pending one, in
 * which a Jacobi iteration guesses ahead. N-grams of its trajectory are pooled, and drafted when
 * the sequence comes by their first token.
 *
 * Fu, Bailis, Stoica, Zhang, "Break the Sequential Dependency of LLM Inference Using Lookahead
 * Decoding", arXiv:2402.02057, with one n-gram verified at a time (G = 1).
 */
export class Lookahead {
  readonly #window: LookaheadWindow;
  readonly #pool: NgramPool;

  /** @param promptTokenIds what the window is filled with at first; at least one */
  constructor(promptTokenIds: readonly TokenId[], options: Partial<LookaheadOptions> = {}) {
    const shape = { ...DEFAULTS, ...options };
    this.#window = new LookaheadWindow(shape, promptTokenIds);
    this.#pool = new NgramPool(shape.maxNgrams);
  }

  /** What to run beside the pending token and the draft. */
  sideTokens(): SideTokens {
    return this.#window.sideTokens();
  }

  /**
   * Takes what the model chose after the side tokens from `firstWanted` on.
   *
   * @param numTaken tokens that the sequence gained in the same step
   */
  take(nextTokenIds: readonly TokenId[], numTaken: number): void {
    for (const ngram of this.#window.take(nextTokenIds, numTaken)) this.#pool.add(ngram);
  }

  /** @returns `null` when no n-gram begins with the sequence's last token */
  propose(lastTokenId: TokenId, maxDraft: number): Proposal | null {
    const tokenIds = this.#pool.follow(lastTokenId, maxDraft);
    if (tokenIds.length === 0) return null;
    return { proposer: 'lookahead', tokenIds, matchLength: 1 };
  }
}
