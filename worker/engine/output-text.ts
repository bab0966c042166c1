import type { TokenId } from '../../shared/ids.ts';
import { Detokenizer, type TokenBytes } from './detokenizer.ts';
import { StopMatcher, type StopResult } from './stop.ts';

/** The visible text of one choice: whole characters, up to the first stop string. */
export class OutputText {
  readonly #detokenizer: Detokenizer;
  readonly #stop: StopMatcher;
  /** Tokens to come in which a stop string does not count that ends there. */
  #numUnstoppable: number;

  constructor(tokenBytes: TokenBytes, stops: readonly string[], minTokens = 0) {
    this.#detokenizer = new Detokenizer(tokenBytes);
    this.#stop = new StopMatcher(stops);
    this.#numUnstoppable = minTokens;
  }

  /** @returns what the token adds to the visible text */
  push(tokenId: TokenId): StopResult {
    const canStop = this.#numUnstoppable <= 0;
    this.#numUnstoppable -= 1;
    return this.#stop.push(this.#detokenizer.push(tokenId), canStop);
  }

  /** @returns the text that was held back until now, when nothing follows */
  flush(): StopResult {
    const canStop = this.#numUnstoppable <= 0;
    const { text, isStopped } = this.#stop.push(this.#detokenizer.flush(), canStop);
    return { text: text + this.#stop.flush(), isStopped };
  }
}
