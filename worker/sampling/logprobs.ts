import type { TokenId } from '../../shared/ids.ts';
import { expNegative } from './exp.ts';

export interface TokenLogprob {
  readonly tokenId: TokenId;
  readonly logprob: number;
}

/** ln of the sum of exp(logits). @param logits [vocabSize] */
export function logSumExp(logits: Float32Array): number {
  let greatest = -Infinity;
  for (let i = 0; i < logits.length; i += 1) if (logits[i]! > greatest) greatest = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i += 1) sum += Math.exp(logits[i]! - greatest);
  return greatest + Math.log(sum);
}

/** The `k` likeliest tokens, greatest first; of equal ones, the first. */
export function topLogprobs(logits: Float32Array, k: number): TokenLogprob[] {
  const normalizer = logSumExp(logits);
  const top: TokenLogprob[] = [];
  for (let tokenId = 0; tokenId < logits.length && k > 0; tokenId += 1) {
    const logprob = logits[tokenId]! - normalizer;
    if (top.length === k && logprob <= top[k - 1]!.logprob) continue;
    let place = top.length;
    while (place > 0 && top[place - 1]!.logprob < logprob) place -= 1;
    top.splice(place, 0, { tokenId, logprob });
    if (top.length > k) top.pop();
  }
  return top;
}

/** The token's share of softmax(logits / temperature); at temperature 0, of softmax(logits). */
export function probabilityOf(tokenId: TokenId, logits: Float32Array, temperature: number): number {
  const inverse = temperature === 0 ? 1 : 1 / temperature;
  let greatest = -Infinity;
  for (let i = 0; i < logits.length; i += 1) if (logits[i]! > greatest) greatest = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i += 1) sum += expNegative((greatest - logits[i]!) * inverse);
  return expNegative((greatest - logits[tokenId]!) * inverse) / sum;
}
