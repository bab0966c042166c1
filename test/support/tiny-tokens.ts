import type { TokenBytes } from '../../worker/engine/detokenizer.ts';
import type { DescribeToken } from '../../worker/engine/token-selector.ts';

export const EOS = 1;
/** A token for which this model has no numbers, only NaN. */
export const NAN_TOKEN = 2;

/** Special tokens, then letters, then bytes of characters that take several. */
const TOKENS: readonly (string | Uint8Array | null)[] = [
  null,
  null,
  null,
  ...['a', 'b', 'c', 'd', ' ', 'ab', 'bc', 'cd', 'ca', 'abc', 'd a', '.', 'é', '\n'],
  ...[[0xc3], [0xa9], [0xe2, 0x82], [0xac], [0xf0, 0x9f], [0x98], [0x80], [0xff]].map((bytes) =>
    Uint8Array.from(bytes),
  ),
];

export const VOCAB_SIZE = TOKENS.length;

const bytesById = TOKENS.map((token) =>
  typeof token === 'string' ? new TextEncoder().encode(token) : token,
);

export const tinyTokenBytes: TokenBytes = (tokenId) => bytesById[tokenId] ?? null;

export const describeTinyToken: DescribeToken = (tokenId) => {
  const bytes = tinyTokenBytes(tokenId) ?? new Uint8Array();
  return { text: new TextDecoder().decode(bytes), bytes: [...bytes] };
};
