import type { Strike } from './adversary.ts';
import type { Pause } from './client.ts';

export interface PausesReport {
  /** From a kill to the next event, over all silences in which something was killed. */
  readonly pause_p50_ms: number;
  readonly pause_p99_ms: number;
  /** Where another worker went on, and nothing happened meanwhile but that a worker was killed. */
  readonly takeovers: number;
  readonly takeover_p50_ms: number;
  readonly takeover_p99_ms: number;
}

/** How long streams stood still after kills. */
export function reportPauses(pauses: readonly Pause[], strikes: readonly Strike[]): PausesReport {
  const afterKills: number[] = [];
  const takeovers: number[] = [];
  for (const { startMs, endMs, isTakeOver } of pauses) {
    const within = strikes.filter(({ atMs }) => atMs >= startMs && atMs < endMs);
    const [first] = within;
    if (first === undefined) continue; // what it waits for happened before, or nothing did
    afterKills.push(endMs - first.atMs);
    if (isTakeOver && within.length === 1 && first.harm === 'killWorker')
      takeovers.push(endMs - first.atMs);
  }
  return {
    pause_p50_ms: quantile(afterKills, 0.5),
    pause_p99_ms: quantile(afterKills, 0.99),
    takeovers: takeovers.length,
    takeover_p50_ms: quantile(takeovers, 0.5),
    takeover_p99_ms: quantile(takeovers, 0.99),
  };
}

function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
}
