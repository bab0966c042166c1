import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import type { TokenId } from './ids.ts';
import type { TokenizerFiles } from './protocol/model-card.ts';
import { createTokenDecoder } from './token-bytes.ts';

/**
 * A tokenizer that cannot be used: which of its files is damaged, or a kind whose tokens have no
 * bytes of their own.
 */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';
}

export interface EncodeOptions {
  /** Whether the begin token and its like are put around the text, as the model was trained. */
  readonly addSpecialTokens: boolean;
}

/** Text to token ids and back, exactly as the model's makers do it. */
export interface Tokenizer {
  /** One more than the greatest token id. */
  readonly vocabSize: number;
  /**
   * Bytes of the longest token: a text of `b` bytes has about `b / longestTokenBytes` tokens or
   * more.
   */
  readonly longestTokenBytes: number;
  /** Spaces that `encode` puts before every text and `decode` leaves out. */
  readonly numLeadingSpaces: number;
  encode(text: string, options: EncodeOptions): TokenId[];
  /** Special tokens are left out; bytes that are no whole character are replaced. */
  decode(tokenIds: readonly TokenId[]): string;
  /**
   * What the token adds to a text that has already begun; `null` for a special token or none at
   * all.
   */
  tokenBytes(tokenId: TokenId): Uint8Array | null;
  /** The token's text for people: special tokens by name, broken characters replaced. */
  tokenText(tokenId: TokenId): string;
}

const addedTokensSchema = z.array(
  z.looseObject({ id: z.int().nonnegative(), content: z.string(), special: z.boolean() }),
);

const tokenizerJsonSchema = z.looseObject({
  added_tokens: addedTokensSchema.default([]),
  decoder: z.unknown(),
});

/**
 * @throws {TokenizerError} when the files are unreadable or the kind of tokenizer is not supported
 */
export function createTokenizer(files: TokenizerFiles): Tokenizer {
  const { source, json } = parseFiles(files);
  const tokens: (string | undefined)[] = []; // [vocabSize]
  for (const [token, id] of source.get_vocab(true)) tokens[id] = token;
  const nameById = new Map<TokenId, string>();
  for (const { id, content, special } of json.added_tokens) {
    tokens[id] = content;
    if (special) nameById.set(id, content);
  }

  const decoder = toTokenDecoder(json.decoder);
  const bytesById: (Uint8Array | undefined)[] = [];
  const tokenBytes = (tokenId: TokenId): Uint8Array | null => {
    const token = tokens[tokenId];
    if (token === undefined || nameById.has(tokenId)) return null;
    bytesById[tokenId] ??= decoder.toBytes(token);
    return bytesById[tokenId];
  };

  return {
    vocabSize: tokens.length,
    longestTokenBytes: longestOf(tokens),
    numLeadingSpaces: decoder.numLeadingSpaces,
    encode: (text, { addSpecialTokens }) =>
      source.encode(text, { add_special_tokens: addSpecialTokens }).ids,
    decode: (tokenIds) => decoder.join(tokenIds.map(tokenBytes).filter((bytes) => bytes !== null)),
    tokenBytes,
    tokenText(tokenId) {
      const bytes = tokenBytes(tokenId);
      return bytes === null ? (nameById.get(tokenId) ?? '') : new TextDecoder().decode(bytes);
    },
  };
}

function parseFiles({ tokenizerJson, tokenizerConfigJson }: TokenizerFiles) {
  const config = parseFile('tokenizer_config.json', tokenizerConfigJson, Object);
  return parseFile('tokenizer.json', tokenizerJson, (json) => ({
    source: new HuggingFaceTokenizer(z.looseObject({}).parse(json), config),
    json: tokenizerJsonSchema.parse(json),
  }));
}

function parseFile<Parsed>(name: string, text: string, parse: (json: unknown) => Parsed): Parsed {
  try {
    return parse(JSON.parse(text));
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new TokenizerError(`${name} cannot be used: ${reason}`, { cause });
  }
}

function toTokenDecoder(decoder: unknown) {
  try {
    return createTokenDecoder(decoder);
  } catch (cause) {
    throw new TokenizerError(cause instanceof Error ? cause.message : 'bad decoder', { cause });
  }
}

/** Bytes of a token are never more than those of its name. */
function longestOf(tokens: readonly (string | undefined)[]): number {
  const encoder = new TextEncoder();
  let longest = 1;
  for (const token of tokens) {
    if (token === undefined || token.length * 3 <= longest) continue;
    longest = Math.max(longest, encoder.encode(token).length);
  }
  return longest;
}
