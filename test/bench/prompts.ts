import type { Tokenizer } from '../../shared/tokenizer.ts';
import texts from '../fixtures/prompts.json' with { type: 'json' };

/** Endless distinct prompts of story text, so that nothing is served from a cache of prefixes. */
export class PromptSource {
  readonly #tokenIds: readonly number[];
  #numTaken = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenIds = texts.flatMap((text) => tokenizer.encode(text, { addSpecialTokens: false }));
  }

  /** @returns prompts of exactly `numTokens` */
  take(numPrompts: number, numTokens: number): number[][] {
    return Array.from({ length: numPrompts }, () => this.#next(numTokens));
  }

  #next(numTokens: number): number[] {
    const start = (this.#numTaken * 13) % this.#tokenIds.length;
    this.#numTaken += 1;
    return Array.from(
      { length: numTokens },
      (_, i) => this.#tokenIds[(start + i) % this.#tokenIds.length] ?? 0,
    );
  }
}
