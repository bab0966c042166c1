import { TAIL_CAPACITY } from '../cache/layout.ts';

/** A row of a group, as far as planning goes. */
export interface PlannedRow {
  /** New tokens it reads in this step; 0 to sit it out. */
  readonly numTokens: number;
  /** Tokens in its tail. */
  readonly tailLength: number;
}

/** Rows `start` to `end` of a group, read together, each padded to `numNewTokens`. */
export interface Call {
  readonly start: number;
  readonly end: number;
  readonly numNewTokens: number;
}

/** Padded tokens that cost about as much as another call, which reads all weights again. */
const CALL_COST_TOKENS = 8;

/**
 * Cuts the rows of a group into calls of the model. One call reads the weights once but pads every
 * row to the longest; so a prompt is read apart from the rows that decode, and rows with drafts of
 * nearly one length together. Minimizes padded tokens plus the cost of calls, over all ways to cut.
 *
 * Rows with 1, 1, 1 and 64 new tokens: two calls, since padding would make 4 x 64 of 67.
 */
export function planCalls(rows: readonly PlannedRow[]): Call[] {
  // costs[end]: the least cost of the first `end` rows; starts[end]: where the last call of it
  // begins.
  const costs = [0];
  const starts = [0];
  for (let end = 1; end <= rows.length; end += 1) {
    const isSkippable = rows[end - 1]!.numTokens === 0;
    let best = isSkippable ? costs[end - 1]! : Infinity;
    let bestStart = end - 1;
    let longest = 0;
    let fullestTail = 0;
    for (let start = end - 1; start >= 0; start -= 1) {
      const { numTokens, tailLength } = rows[start]!;
      longest = Math.max(longest, numTokens);
      if (numTokens > 0) fullestTail = Math.max(fullestTail, tailLength);
      if (fullestTail + longest > TAIL_CAPACITY) break; // the padding would run out of the tail
      if (longest === 0) continue;
      const cost = costs[start]! + CALL_COST_TOKENS + (end - start) * longest;
      if (cost < best) {
        best = cost;
        bestStart = start;
      }
    }
    costs.push(best);
    starts.push(bestStart);
  }
  return toCalls(rows, starts);
}

function toCalls(rows: readonly PlannedRow[], starts: readonly number[]): Call[] {
  const calls: Call[] = [];
  for (let end = rows.length; end > 0; ) {
    const start = starts[end]!;
    const numNewTokens = Math.max(...rows.slice(start, end).map(({ numTokens }) => numTokens));
    if (numNewTokens > 0) calls.push({ start, end, numNewTokens });
    end = start;
  }
  return calls.reverse();
}
