import type { TokenId } from '../../../shared/ids.ts';

/** The negative logarithm of a token's probability. */
export function lossOf(logits: Float32Array, tokenId: TokenId): number {
  let greatest = -Infinity;
  for (const logit of logits) greatest = Math.max(greatest, logit);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - greatest);
  return Math.log(total) + greatest - logits[tokenId]!;
}
