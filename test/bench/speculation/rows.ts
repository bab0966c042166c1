import { median } from '../statistics.ts';
import type { Pass, PassTime } from './bench-pair.ts';
import { boundOf, type Costs, MAX_DRAFT } from './costs.ts';

/** Of a table of rows. */
export const COLUMNS = [
  'rows',
  'mode',
  'tokens/s',
  'speed-up',
  'accepted by position',
  'tokens/draft',
  'a',
  'draft run ms',
  'bound',
  'measured/bound',
];

/** One mode at one number of rows. */
export interface Row {
  readonly numRows: number;
  readonly mode: string;
  readonly speedUp: number;
  readonly ofBound: number | null;
  readonly cells: (string | number | null)[];
}

/** @param plain what plain decoding took in the same rounds */
export function toRow(
  mode: string,
  passes: readonly Pass[],
  plain: readonly PassTime[],
  costs: Costs,
): Row {
  const { numRows } = costs;
  const rate = median(passes.map(({ numTokens, ms }) => (numTokens / ms) * 1000));
  const speedUp = median(passes.map(({ ms }, i) => plain[i]!.ms / ms));
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const numDrafts = sum(passes.map((pass) => pass.numDrafts));
  const accepted = Array.from({ length: MAX_DRAFT }, (_, i) =>
    sum(passes.map((pass) => pass.numAcceptedPerPosition[i] ?? 0)),
  );
  const numAccepted = sum(accepted);
  const agreement = numAccepted / (numAccepted + sum(passes.map((pass) => pass.numRejected)));
  const isBounded = mode === 'draft' && numDrafts > 0;
  const draftMs = sum(passes.map((pass) => pass.draftMs));
  const runMs = draftMs / sum(passes.map((pass) => pass.numDraftRuns));
  const bound = isBounded ? boundOf(agreement, runMs, costs) : null;
  const decodeSpeedUp = median(passes.map(({ decodeMs }, i) => plain[i]!.decodeMs / decodeMs));
  const ofBound = bound === null ? null : decodeSpeedUp / bound;
  const shares = accepted
    .filter((count) => count > 0)
    .map((count) => (count / numDrafts).toFixed(2));
  const perDraft = numDrafts === 0 ? null : (numAccepted / numDrafts).toFixed(2);
  const fixed = (value: number | null) => (value === null ? null : value.toFixed(2));
  const cells = [
    numRows,
    mode,
    rate.toFixed(0),
    speedUp.toFixed(2),
    shares.join(' '),
    perDraft,
    numDrafts === 0 ? null : agreement.toFixed(2),
    draftMs === 0 ? null : runMs.toFixed(2),
    fixed(bound),
    fixed(ofBound),
  ];
  return { numRows, mode, speedUp, ofBound, cells };
}
