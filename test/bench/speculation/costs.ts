import type { ModelRunner } from '../../../worker/model/runner.ts';
import type { Table } from '../benchmark.ts';
import { median } from '../statistics.ts';
import { callTimes } from './call-times.ts';

export const MAX_DRAFT = 8;

/** What calls cost at one number of rows. */
export interface Costs {
  readonly numRows: number;
  /** [m - 1] milliseconds of a call with m new tokens in each row. */
  readonly verifyMs: readonly number[];
  /** [m - 1] the same in calls with one, v(m): the median of what it was round by round. */
  readonly verifyRatios: readonly number[];
  /** Of a run of the draft model. */
  readonly draftMs: number;
}

export async function measureCosts(
  { target, draft }: { readonly target: ModelRunner; readonly draft: ModelRunner },
  numRows: number,
  numRounds: number,
): Promise<Costs> {
  const verifying = Array.from({ length: MAX_DRAFT + 1 }, (_, i) => ({
    runner: target,
    numRows,
    numNewTokens: i + 1,
  }));
  const drafting = { runner: draft, numRows, numNewTokens: 1 };
  const [draftTimes, ...verifyTimes] = await callTimes([drafting, ...verifying], numRounds);
  const plainTimes = verifyTimes[0]!;
  return {
    numRows,
    verifyMs: verifyTimes.map(median),
    verifyRatios: verifyTimes.map((times) => median(times.map((ms, i) => ms / plainTimes[i]!))),
    draftMs: median(draftTimes!),
  };
}

export function toCostTable(title: string, all: readonly Costs[]): Table {
  const fixed = (values: readonly number[]) => values.map((value) => value.toFixed(2));
  return {
    title: `${title}: milliseconds of a call`,
    columns: ['rows', '', ...Array.from({ length: MAX_DRAFT + 1 }, (_, i) => `${i + 1} new`)],
    rows: all.flatMap(({ numRows, verifyMs, verifyRatios, draftMs }) => [
      [numRows, 'target', ...fixed(verifyMs)],
      [numRows, 'v', ...fixed(verifyRatios)],
      [numRows, 'draft', ...fixed([draftMs])],
    ]),
  };
}

/**
 * The best that drafting could do at acceptance `a`, over all draft lengths.
 *
 * @param runMs of the draft model, where it drafts
 */
export function boundOf(a: number, runMs: number, { verifyMs, verifyRatios }: Costs): number {
  let best = 1;
  for (let g = 1; g <= MAX_DRAFT; g += 1) {
    const cost = (g * runMs) / verifyMs[0]! + verifyRatios[g]!;
    const tokens = a === 1 ? g + 1 : (1 - a ** (g + 1)) / (1 - a);
    best = Math.max(best, tokens / cost);
  }
  return best;
}
