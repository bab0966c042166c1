import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTokenizer, type Tokenizer } from '../../shared/tokenizer.ts';
import texts from '../fixtures/prompts.json' with { type: 'json' };

/** Story text, [numTokens]. */
export function corpusOf(modelDir: string): number[] {
  const read = (name: string) => readFileSync(join(modelDir, name), 'utf8');
  return encodeCorpus(
    createTokenizer({
      tokenizerJson: read('tokenizer.json'),
      tokenizerConfigJson: read('tokenizer_config.json'),
    }),
  );
}

function encodeCorpus(tokenizer: Tokenizer): number[] {
  return texts.flatMap((text) => tokenizer.encode(text, { addSpecialTokens: false }));
}

/** Endless distinct prompts of story text, so that nothing is served from a cache of prefixes. */
export class PromptSource {
  readonly #tokenIds: readonly number[];
  #numTaken = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenIds = encodeCorpus(tokenizer);
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
