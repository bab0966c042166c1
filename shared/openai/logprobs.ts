import { type CharacterCount, countCharacters, NO_CHARACTERS } from '../characters.ts';
import type { TokenLogprobs, TokenText } from '../protocol/event.ts';

/** What OpenAI puts for a token whose probability it does not know. */
const UNKNOWN_LOGPROB = -9999;

/** The `logprobs` object of a chat choice. */
export function toChatLogprobs(tokens: readonly TokenLogprobs[], topLogprobs: number) {
  const content = tokens.map((token) => ({
    ...toChatToken(token),
    top_logprobs: token.top.slice(0, topLogprobs).map(toChatToken),
  }));
  return { content, refusal: null };
}

function toChatToken({ text, logprob, bytes }: TokenText) {
  return { token: text, logprob: logprob ?? UNKNOWN_LOGPROB, bytes };
}

/** The `logprobs` object of a completion choice. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  /**
   * By token; the chosen one is there even when others are likelier. `null` where nothing was
   * predicted.
   */
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the choice's text, in Unicode characters. */
  text_offset: number[];
}

/**
 * Turns tokens to completion log-probabilities, counting characters from the beginning of the
 * choice.
 */
export class CompletionLogprobsEncoder {
  #count: CharacterCount;

  /** @param count of the tokens before the first that it is given */
  constructor(count: CharacterCount = NO_CHARACTERS) {
    this.#count = count;
  }

  encode(tokens: readonly TokenLogprobs[]): CompletionLogprobs {
    return {
      tokens: tokens.map(nameOf),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map(toTopByName),
      text_offset: tokens.map(({ bytes }) => {
        const { numCharacters } = this.#count;
        this.#count = countCharacters(this.#count, bytes);
        return numCharacters;
      }),
    };
  }
}

function toTopByName(token: TokenLogprobs): Record<string, number> | null {
  if (token.logprob === null) return null;
  const chosen: [string, number] = [nameOf(token), token.logprob];
  const top = token.top.map((other): [string, number] => [
    nameOf(other),
    other.logprob ?? UNKNOWN_LOGPROB,
  ]);
  return Object.fromEntries([...top, chosen]);
}

/**
 * Its text; as OpenAI does, bytes that are no whole character are spelled out: `bytes:\xf0\x9f`.
 */
function nameOf({ text, bytes }: TokenText): string {
  if (!text.includes('\ufffd')) return text;
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
}
