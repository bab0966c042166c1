import type { TokenId } from '../../shared/ids.ts';

/** Bytes of a token; `null` for special tokens, which have no text. */
export type TokenBytes = (tokenId: TokenId) => Uint8Array | null;

/**
 * Turns tokens into text one at a time. A character whose bytes are spread over tokens comes with
 * the last of them; bytes that are no UTF-8 become U+FFFD, the same however they are cut.
 */
export class Detokenizer {
  readonly #tokenBytes: TokenBytes;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokenBytes: TokenBytes) {
    this.#tokenBytes = tokenBytes;
  }

  /** @returns the characters that the token completes */
  push(tokenId: TokenId): string {
    const bytes = this.#tokenBytes(tokenId);
    return bytes === null ? '' : this.#decoder.decode(bytes, { stream: true });
  }

  /** @returns what is left: U+FFFD for a character that was never completed */
  flush(): string {
    return this.#decoder.decode();
  }
}
