import type { TokenId } from '../../shared/ids.ts';
import { expNegative } from './exp.ts';
import type { TokenHistory } from './history.ts';

/** All filters change `logits` [vocabSize] in place; the greatest logit always survives them. */

export interface Penalties {
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
}

/**
 * Makes tokens that were seen less likely: OpenAI's presence and frequency penalties, of output
 * tokens, and the repetition penalty of prompt and output tokens (Keskar et al., "CTRL",
 * arXiv:1909.05858, section 4.1).
 */
export function applyPenalties(
  logits: Float32Array,
  history: TokenHistory,
  { presencePenalty, frequencyPenalty, repetitionPenalty }: Penalties,
): void {
  if (repetitionPenalty !== 1) {
    for (const tokenId of history.promptCounts.keys()) repel(logits, tokenId, repetitionPenalty);
    for (const tokenId of history.outputCounts.keys()) {
      if (!history.promptCounts.has(tokenId)) repel(logits, tokenId, repetitionPenalty);
    }
  }
  if (presencePenalty === 0 && frequencyPenalty === 0) return;
  for (const [tokenId, count] of history.outputCounts) {
    logits[tokenId]! -= presencePenalty + frequencyPenalty * count;
  }
}

function repel(logits: Float32Array, tokenId: TokenId, penalty: number): void {
  const logit = logits[tokenId]!;
  logits[tokenId] = logit > 0 ? logit / penalty : logit * penalty;
}

/** Adds a bias to single tokens. */
export function applyBias(
  logits: Float32Array,
  bias: readonly (readonly [TokenId, number])[],
): void {
  for (const [tokenId, amount] of bias) logits[tokenId]! += amount;
}

/** Keeps the `k` greatest logits; of equal ones, the first. 0 keeps all. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k === 0 || k >= logits.length) return;
  const sorted = Float32Array.from(logits).sort(); // ascending
  const threshold = sorted[sorted.length - k]!;
  let numEqualLeft = 0;
  for (let i = sorted.length - k; i < sorted.length && sorted[i] === threshold; i += 1) {
    numEqualLeft += 1;
  }
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    const logit = logits[tokenId]!;
    if (logit > threshold) continue;
    if (logit === threshold && numEqualLeft > 0) numEqualLeft -= 1;
    else logits[tokenId] = -Infinity;
  }
}

/**
 * Buckets of `keepTopP` for each nat under the greatest logit; a power of two, so that scaling is
 * exact.
 */
const BUCKETS_PER_NAT = 8;
const NUM_BUCKETS = 256;

/**
 * Keeps the likeliest tokens of softmax(logits / temperature) until their mass reaches `p`, at
 * least one; of equal ones, the first.
 *
 * Masses are gathered in buckets of logits, and only the bucket in which the mass reaches `p` is
 * sorted: the plain version sorts the vocabulary.
 *
 * Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751, section 3.1.
 */
export function keepTopP(logits: Float32Array, p: number, temperature: number): void {
  if (p >= 1 || temperature === 0) return;
  const inverse = 1 / temperature;
  const greatest = maxOf(logits);
  const masses = new Float64Array(NUM_BUCKETS);
  let total = 0;
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    const depth = (greatest - logits[tokenId]!) * inverse;
    const weight = expNegative(depth);
    masses[Math.min(NUM_BUCKETS - 1, Math.floor(depth * BUCKETS_PER_NAT))]! += weight;
    total += weight;
  }

  const wanted = p * total;
  let mass = 0;
  let boundary = 0;
  while (boundary < NUM_BUCKETS - 1 && mass + masses[boundary]! < wanted) {
    mass += masses[boundary]!;
    boundary += 1;
  }

  const first = boundary / BUCKETS_PER_NAT;
  const end = boundary === NUM_BUCKETS - 1 ? Infinity : (boundary + 1) / BUCKETS_PER_NAT;
  const onBoundary: TokenId[] = [];
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    const depth = (greatest - logits[tokenId]!) * inverse;
    if (depth >= end) logits[tokenId] = -Infinity;
    else if (depth >= first) onBoundary.push(tokenId);
  }
  onBoundary.sort((a, b) => logits[b]! - logits[a]! || a - b);
  for (const tokenId of onBoundary) {
    const weight = expNegative((greatest - logits[tokenId]!) * inverse);
    if (mass >= wanted) logits[tokenId] = -Infinity;
    mass += weight;
  }
}

/**
 * Keeps tokens at least `minP` times as likely as the likeliest.
 *
 * Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082, section 3.
 */
export function keepMinP(logits: Float32Array, minP: number, temperature: number): void {
  if (minP === 0 || temperature === 0) return;
  const threshold = maxOf(logits) + Math.log(minP) * temperature;
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    if (logits[tokenId]! < threshold) logits[tokenId] = -Infinity;
  }
}

function maxOf(logits: Float32Array): number {
  let greatest = -Infinity;
  for (let tokenId = 0; tokenId < logits.length; tokenId += 1) {
    const logit = logits[tokenId]!;
    if (logit > greatest) greatest = logit;
  }
  return greatest;
}
