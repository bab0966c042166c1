import type { TokenId } from '../../shared/ids.ts';

interface NgramOptions {
  /** Shortest and longest suffix worth matching, in tokens. */
  readonly minN: number;
  readonly maxN: number;
  /** Where an occurrence may end at the latest. */
  readonly maxEnd: number;
}

/**
 * Prompt lookup as plainly as can be: where the longest suffix occurred last, by trying them all.
 */
export function findSuffix(
  tokenIds: readonly TokenId[],
  { minN, maxN, maxEnd }: NgramOptions,
): { end: number; length: number } | null {
  for (let n = Math.min(maxN, tokenIds.length); n >= minN; n -= 1) {
    for (let end = Math.min(maxEnd, tokenIds.length - 1); end >= n; end -= 1) {
      if (matchesSuffix(tokenIds, end, n)) return { end, length: n };
    }
  }
  return null;
}

/** Whether the `n` tokens before `end` equal the last `n`. */
function matchesSuffix(tokenIds: readonly TokenId[], end: number, n: number): boolean {
  for (let i = 1; i <= n; i += 1) {
    if (tokenIds[end - i] !== tokenIds[tokenIds.length - i]) return false;
  }
  return true;
}

/** The tokens from `end` on, and after the last of them the continuation itself. */
export function continueFrom(
  tokenIds: readonly TokenId[],
  end: number,
  maxDraft: number,
): TokenId[] {
  const text = [...tokenIds];
  for (let i = 0; i < maxDraft; i += 1) text.push(text[end + i]!);
  return text.slice(tokenIds.length);
}
