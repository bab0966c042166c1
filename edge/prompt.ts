import { PlatformError } from '../shared/errors.ts';
import type { TokenId } from '../shared/ids.ts';
import type { ModelCard } from '../shared/protocol/model-card.ts';
import type { Tokenizer } from '../shared/tokenizer.ts';

/**
 * Texts beyond this many times the longest token for each position cannot fit, even where a
 * tokenizer folds characters together, and are refused uncounted: encoding megabytes would hold up
 * everybody else.
 */
const CLEARLY_TOO_LONG = 4;

export interface EncodeTextOptions {
  /** Where the text stands in the body. */
  readonly param: string;
  readonly addSpecialTokens: boolean;
  /** `null` when a text may be longer than the context. */
  readonly maxTokens: number | null;
}

/**
 * @throws {PlatformError} `context_too_long` when the text is so long that it need not be counted
 */
export function encodeText(
  text: string,
  { param, addSpecialTokens, maxTokens }: EncodeTextOptions,
  tokenizer: Tokenizer,
): TokenId[] {
  const perToken = CLEARLY_TOO_LONG * tokenizer.longestTokenBytes;
  if (maxTokens !== null && text.length > perToken * maxTokens) {
    const message = `${param} has ${text.length} characters; the limit is ${maxTokens} tokens`;
    throw new PlatformError('context_too_long', message, { param });
  }
  return tokenizer.encode(text, { addSpecialTokens });
}

/** @throws {PlatformError} `invalid_request` for a token the model does not have */
export function checkTokenIds(
  tokenIds: readonly TokenId[],
  param: string,
  { vocabSize, name }: ModelCard,
): void {
  const wrong = tokenIds.find((id) => id >= vocabSize);
  if (wrong === undefined) return;
  const message = `${param} holds token ${wrong}; the vocabulary of ${name} ends at ${vocabSize - 1}`;
  throw new PlatformError('invalid_request', message, { param });
}
