import type { TokenId } from '../../shared/ids.ts';
import { Detokenizer, type TokenBytes } from './detokenizer.ts';
import { StopMatcher, type StopResult } from './stop.ts';

/** The visible text of one choice: whole characters, up to the first stop string. */
export class OutputText {
  readonly #detokenizer: Detokenizer;
  readonly #stop: StopMatcher;

  constructor(tokenBytes: TokenBytes, stops: readonly string[]) {
    this.#detokenizer = new Detokenizer(tokenBytes);
    this.#stop = new StopMatcher(stops);
  }

  /** @returns what the token adds to the visible text */
  push(tokenId: TokenId): StopResult {
    return this.#stop.push(this.#detokenizer.push(tokenId));
  }

  /** @returns the text that was held back until now, when nothing follows */
  flush(): StopResult {
    const { text, isStopped } = this.#stop.push(this.#detokenizer.flush());
    return { text: text + this.#stop.flush(), isStopped };
  }
}
