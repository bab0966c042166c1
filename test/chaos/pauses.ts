import type { Strike } from './adversary.ts';
import type { Pause } from './client.ts';

/** From a kill to the next event, over all silences of streams in which something was killed. */
export interface PausesReport {
  readonly pauses: number;
  readonly pause_p50_ms: number;
  readonly pause_p99_ms: number;
}

export function reportPauses(pauses: readonly Pause[], kills: readonly Strike[]): PausesReport {
  const sorted = pauses
    .flatMap(({ startMs, endMs }) => {
      const first = kills.find(({ atMs }) => atMs >= startMs && atMs < endMs);
      return first === undefined ? [] : [endMs - first.atMs];
    })
    .sort((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
  return { pauses: sorted.length, pause_p50_ms: at(0.5), pause_p99_ms: at(0.99) };
}
