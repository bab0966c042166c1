import type { TokenId } from '../../shared/ids.ts';

/** Names one draw: the choice's seed and the position in the sequence that the token will take. */
export interface DrawKey {
  readonly seed: number;
  readonly position: number;
}

/**
 * The part of the hash that all tokens of one draw share; two words, so that draws do not collide.
 */
export interface DrawHash {
  readonly first: number;
  readonly second: number;
}

/**
 * The 32-bit finalizer of MurmurHash3 (Appleby, 2008): every input bit reaches every output bit.
 */
function mix(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

export function hashDraw({ seed, position }: DrawKey): DrawHash {
  const first = mix(mix(seed ^ 0x9e3779b9) + Math.imul(position + 1, 0x27d4eb2f));
  return { first, second: mix(first ^ Math.imul(seed, 0x165667b1) ^ position) };
}

/** 32 uniform bits for one token of a draw. */
export function noiseBits({ first, second }: DrawHash, tokenId: TokenId): number {
  return mix(first ^ Math.imul(tokenId + second, 0x9e3779b1)) >>> 0;
}

/**
 * Standard Gumbel noise from uniform bits. The uniform is never 0 or 1: the noise is in (-3.2,
 * 22.9).
 */
export function toGumbel(bits: number): number {
  return -Math.log(-Math.log((bits + 0.5) / 2 ** 32));
}

/**
 * At least `toGumbel(bits)`, without a logarithm: -ln u >= 1 - u, hence the noise is at most -ln(1
 * - u), and 1 - u is at least half of the power of two that its leading zeros tell.
 */
export function gumbelBound(bits: number): number {
  return (Math.clz32(~bits) + 1) * Math.LN2;
}

/**
 * Standard Gumbel noise for one token at one position: a pure function of its arguments, so that
 * a draw comes out the same in any batch, on any worker, drafted or not.
 */
export function gumbelNoise(key: DrawKey, tokenId: TokenId): number {
  return toGumbel(noiseBits(hashDraw(key), tokenId));
}
