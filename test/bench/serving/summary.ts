import { median, quantile, sum } from '../statistics.ts';
import type { Served } from './load.ts';
import type { LoadPlan } from './plan.ts';

/** What one load showed. */
export interface LoadSummary {
  readonly numRequests: number;
  /** Requests in work, on average over the time of the load. */
  readonly meanStreams: number;
  readonly tokensPerSecond: number;
  /** Milliseconds from when a request was due to its first token. */
  readonly firstTokenMs: { readonly p50: number; readonly p95: number };
  /** Milliseconds between tokens of a stream, on average over the stream. */
  readonly interTokenMs: { readonly p50: number; readonly p95: number };
  /** Milliseconds to the first token, by place in the plan. */
  readonly firstTokenMsByIndex: ReadonlyMap<number, number>;
}

export function summarize({ durationMs }: LoadPlan, served: readonly Served[]): LoadSummary {
  const firstTokenMsByIndex = new Map(
    served.map(({ index, dueMs, eventMs }) => [index, (eventMs[0] ?? Number.NaN) - dueMs]),
  );
  const firsts = [...firstTokenMsByIndex.values()];
  const gaps = served
    .filter(({ numTokens }) => numTokens > 1)
    .map(({ eventMs, numTokens }) => (eventMs.at(-1)! - eventMs[0]!) / (numTokens - 1));
  const busyMs = sum(
    served.map(({ dueMs, eventMs }) => Math.min(eventMs.at(-1)!, durationMs) - dueMs),
  );
  const numTokens = sum(served.map((request) => tokensWithin(request, durationMs)));
  return {
    numRequests: served.length,
    meanStreams: busyMs / durationMs,
    tokensPerSecond: (1000 * numTokens) / durationMs,
    firstTokenMs: { p50: median(firsts), p95: quantile(firsts, 0.95) },
    interTokenMs: { p50: median(gaps), p95: quantile(gaps, 0.95) },
    firstTokenMsByIndex,
  };
}

/** Tokens before `endMs`: an event may carry several, so its share of the request's. */
function tokensWithin({ eventMs, numTokens }: Served, endMs: number): number {
  const numWithin = eventMs.filter((ms) => ms <= endMs).length;
  return (numTokens * numWithin) / eventMs.length;
}

/** What one service adds to the time to the first token of another, request by request. */
export function addedFirstTokenMs(service: LoadSummary, alone: LoadSummary): number[] {
  return [...alone.firstTokenMsByIndex].flatMap(([index, ms]) => {
    const other = service.firstTokenMsByIndex.get(index);
    return other === undefined ? [] : [other - ms];
  });
}

/**
 * Times to the first token of requests that one service answered at two times, of all rounds
 * together: by request, first and second time.
 */
export function pairsOfFirstTokenMs(
  rounds: readonly (readonly [first: LoadSummary, second: LoadSummary])[],
): (readonly [number, number])[] {
  return rounds.flatMap(([first, second]) =>
    [...first.firstTokenMsByIndex].flatMap(([index, ms]) => {
      const other = second.firstTokenMsByIndex.get(index);
      return other === undefined ? [] : [[ms, other] as const];
    }),
  );
}
