import type { TokenId } from '../shared/ids.ts';
import type { EncodeOptions, Tokenizer } from '../shared/tokenizer.ts';

export interface EncodeTextOptions extends EncodeOptions {
  readonly maxTokens: number;
}

/** Makes tokens of texts, wherever that is done. */
export interface Encoder {
  /** @returns as `encodeUpTo` */
  encode(text: string, options: EncodeTextOptions): Promise<TokenId[] | null>;
  /** Lets go of what it holds; it may be used again all the same. */
  close(): void;
}

type Rest = (numCharacters: number) => Promise<void>;

/** Texts with fewer characters for each token that they may have are counted as they are. */
const CHARACTERS_PER_TOKEN = 8;
/** Of the longer ones, as much is looked at at once. */
const PIECE_CHARACTERS = 4096;
/**
 * A text has at least this part of the tokens that its pieces have by themselves. What is cut in
 * two is a token or a word at either end of a piece, so that nearly all of them are the text's own.
 */
const OWN_SHARE = 0.75;
/** Characters that are encoded before others have their turn: some milliseconds. */
const PAUSE_CHARACTERS = 16_384;

/**
 * Encodes a text that may have up to `maxTokens` tokens. Of one that has clearly more, only so much
 * is read that it is clear: it takes no longer than one that fits.
 *
 * @param rest awaited before so many characters are encoded at once
 * @returns `null` for such a text; all tokens of any other, be they a few too many
 */
export async function encodeUpTo(
  text: string,
  { maxTokens, ...options }: EncodeTextOptions,
  tokenizer: Tokenizer,
  rest: Rest = async () => undefined,
): Promise<TokenId[] | null> {
  if (text.length > CHARACTERS_PER_TOKEN * maxTokens) {
    if (await isClearlyLonger(text, maxTokens, tokenizer, rest)) return null;
  }
  await rest(text.length);
  return tokenizer.encode(text, options);
}

async function isClearlyLonger(
  text: string,
  maxTokens: number,
  tokenizer: Tokenizer,
  rest: Rest,
): Promise<boolean> {
  let numTokens = 0;
  for (let start = 0; start < text.length; start += PIECE_CHARACTERS) {
    await rest(PIECE_CHARACTERS);
    const piece = text.slice(start, start + PIECE_CHARACTERS).toWellFormed();
    const tokenIds = tokenizer.encode(piece, { addSpecialTokens: false });
    numTokens += Math.max(OWN_SHARE * tokenIds.length - tokenizer.longestTokenBytes, 0);
    if (numTokens > maxTokens) return true;
  }
  return false;
}

/** Encodes on the thread that asks, which others get back now and then. */
export function createInlineEncoder(tokenizer: Tokenizer): Encoder {
  let numAtOnce = 0;
  const rest: Rest = async (numCharacters) => {
    numAtOnce += numCharacters;
    if (numAtOnce <= PAUSE_CHARACTERS) return;
    numAtOnce = numCharacters;
    await new Promise((resolve) => setTimeout(resolve, 0));
  };
  return {
    encode: (text, options) => encodeUpTo(text, options, tokenizer, rest),
    close: () => undefined,
  };
}
