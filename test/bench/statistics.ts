import { invariant } from '../../shared/assert.ts';

/**
 * @param p 0 to 1 @returns the value under which a fraction `p` lies, between neighbors in
 *   proportion
 */
export function quantile(values: readonly number[], p: number): number {
  invariant(values.length > 0, 'a quantile of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const place = p * (sorted.length - 1);
  const below = sorted[Math.floor(place)]!;
  const above = sorted[Math.ceil(place)]!;
  return below + (above - below) * (place - Math.floor(place));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
