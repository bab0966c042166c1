import type { TokenId } from '../../shared/ids.ts';
import type { TokenLogprobs } from '../../shared/protocol/event.ts';
import { Detokenizer, type TokenBytes } from './detokenizer.ts';
import type { DescribeToken } from './token-selector.ts';

export interface EchoContext {
  readonly tokenBytes: TokenBytes;
  readonly describe: DescribeToken;
  /** Spaces that the encoder puts before every text, and nobody wrote. */
  readonly numLeadingSpaces: number;
}

/**
 * A prompt as its client wrote it, and its tokens, the first of which nothing foretold.
 *
 * @param logprobs of all tokens but the first, or `null` where they are not wanted
 */
export function toEcho(
  promptTokenIds: readonly TokenId[],
  logprobs: readonly TokenLogprobs[] | null,
  { tokenBytes, describe, numLeadingSpaces }: EchoContext,
): { readonly text: string; readonly logprobs: TokenLogprobs[] | null } {
  const detokenizer = new Detokenizer(tokenBytes);
  const pieces = promptTokenIds.map((tokenId) => detokenizer.push(tokenId));
  const text = pieces.join('') + detokenizer.flush();
  let numAdded = 0;
  while (numAdded < numLeadingSpaces && text[numAdded] === ' ') numAdded += 1;
  const first = promptTokenIds
    .slice(0, 1)
    .map((id) => ({ id, ...describe(id), logprob: null, top: [] }));
  return {
    text: text.slice(numAdded),
    logprobs: logprobs && withoutLeading([...first, ...logprobs], numAdded),
  };
}

/** The same tokens, the first characters of their text left out, each of which is one byte. */
function withoutLeading(tokens: readonly TokenLogprobs[], count: number): TokenLogprobs[] {
  let numLeft = count;
  return tokens.map((token) => {
    const numCut = Math.min(numLeft, token.bytes.length);
    if (numCut === 0) return token;
    numLeft -= numCut;
    return { ...token, text: token.text.slice(numCut), bytes: token.bytes.slice(numCut) };
  });
}
