import type { SamplingParams } from '../../shared/protocol/job.ts';
import { type DrawKey, gumbelNoise } from '../../worker/sampling/noise.ts';

/** What `worker/sampling` does, without anything that makes it fast: the reference of its tests. */

/** Nothing but the temperature touches the logits. */
export const PLAIN_PARAMS: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: 1,
};

/**
 * The greatest of (logit - greatest) / temperature + noise, the noise of every token worked out.
 */
export function plainSample(logits: Float32Array, temperature: number, key: DrawKey): number {
  const greatest = Math.max(...logits);
  let best = -1;
  let bestScore = -Infinity;
  for (const [tokenId, logit] of logits.entries()) {
    const below = logit - greatest;
    const score = temperature === 0 ? below : below / temperature + gumbelNoise(key, tokenId);
    if (score > bestScore) {
      best = tokenId;
      bestScore = score;
    }
  }
  return best;
}

/** softmax(logits / temperature), the temperature not 0. */
export function plainProbabilities(logits: ArrayLike<number>, temperature: number): number[] {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const greatest = Math.max(...scaled);
  const weights = scaled.map((logit) => Math.exp(logit - greatest));
  const total = weights.reduce((sum, weight) => sum + weight);
  return weights.map((weight) => weight / total);
}

/** Token ids, the greatest logit first; of equal ones, the first. */
export function plainOrder(logits: ArrayLike<number>): number[] {
  return Array.from(logits, (_, tokenId) => tokenId).sort((a, b) =>
    logits[a] === logits[b] ? a - b : logits[b]! - logits[a]!,
  );
}

function keepOnly(logits: readonly number[], kept: ReadonlySet<number>): number[] {
  return logits.map((logit, tokenId) => (kept.has(tokenId) ? logit : -Infinity));
}

export function plainTopK(logits: readonly number[], k: number): number[] {
  return k === 0 ? [...logits] : keepOnly(logits, new Set(plainOrder(logits).slice(0, k)));
}

/** How many of the likeliest tokens are needed for a mass of `p`. */
export function plainNucleusSize(logits: readonly number[], p: number, temperature: number) {
  const probabilities = plainProbabilities(logits, temperature);
  let mass = 0;
  let size = 0;
  /** How near a sum came to `p`: nearer than rounding, and nobody can say which side it is on. */
  let nearest = Infinity;
  for (const tokenId of plainOrder(logits)) {
    if (mass < p) size += 1;
    mass += probabilities[tokenId]!;
    nearest = Math.min(nearest, Math.abs(mass - p));
  }
  return { size, isClear: nearest > 1e-8 };
}

export function plainTopP(logits: readonly number[], p: number, temperature: number): number[] {
  if (p === 1) return [...logits];
  const { size } = plainNucleusSize(logits, p, temperature);
  return keepOnly(logits, new Set(plainOrder(logits).slice(0, size)));
}

export function plainMinP(logits: readonly number[], minP: number, temperature: number): number[] {
  const probabilities = plainProbabilities(logits, temperature);
  const least = minP * Math.max(...probabilities);
  return logits.map((logit, i) => (probabilities[i]! >= least ? logit : -Infinity));
}

interface PlainHistory {
  readonly promptTokenIds: readonly number[];
  readonly outputTokenIds: readonly number[];
}

export function plainPenalties(
  logits: readonly number[],
  { promptTokenIds, outputTokenIds }: PlainHistory,
  params: SamplingParams,
): number[] {
  return logits.map((logit, tokenId) => {
    const count = outputTokenIds.filter((id) => id === tokenId).length;
    const isSeen = count > 0 || promptTokenIds.includes(tokenId);
    const { repetitionPenalty } = params;
    const factor = logit > 0 ? 1 / repetitionPenalty : repetitionPenalty;
    const presence = count > 0 ? params.presencePenalty : 0;
    return logit * (isSeen ? factor : 1) - presence - params.frequencyPenalty * count;
  });
}

/** The exact probabilities of the token that follows. */
export function plainDistribution(
  logits: readonly number[],
  params: SamplingParams,
  history: PlainHistory,
): number[] {
  const { temperature, topK, topP, minP } = params;
  let filtered = plainPenalties(logits, history, params);
  for (const [tokenId, amount] of params.logitBias) filtered[tokenId]! += amount;
  if (temperature === 0) {
    const [first] = plainOrder(filtered);
    return filtered.map((_, tokenId) => (tokenId === first ? 1 : 0));
  }
  filtered = plainTopK(filtered, topK);
  filtered = plainTopP(filtered, topP, temperature);
  filtered = plainMinP(filtered, minP, temperature);
  return plainProbabilities(filtered, temperature);
}
