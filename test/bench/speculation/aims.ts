import type { WeightFormat } from '../../../worker/model/builder.ts';
import { type Target, targetOf } from '../benchmark.ts';
import type { Row } from './rows.ts';

/** One pair in one weight format, by kind of text. */
export interface Measured {
  readonly title: string;
  readonly story: readonly Row[];
  readonly edited: readonly Row[];
  readonly repeated: readonly Row[];
  readonly mixed: readonly Row[];
}

/** What must hold of every pair: `auto` is never slower than plain decoding. */
export function neverSlower({ title, story, mixed }: Measured): Target[] {
  const rows = [
    ...story
      .filter(({ mode }) => mode === 'auto')
      .map((row) => ({ ...row, mode: 'auto on stories' })),
    ...mixed
      .filter(({ mode }) => mode.startsWith('auto'))
      .map((row) => ({ ...row, mode: `${row.mode} on mixed texts` })),
  ];
  return rows.map(({ numRows, mode, speedUp }) =>
    targetOf(`${title}: ${mode}, ${numRows} rows`, speedUp, '>=', 0.98),
  );
}

/** What a pair of usual size is to reach, where one row was measured. */
export function oneRowAims(
  { title, story, edited, repeated }: Measured,
  weightFormat: WeightFormat,
  fastest: WeightFormat,
): Target[] {
  const draft = story.find(({ mode, numRows }) => mode === 'draft' && numRows === 1);
  const lookups = { edits: edited, repetition: repeated };
  const aim = draftAim(weightFormat, fastest);
  return [
    ...(aim === null
      ? []
      : [targetOf(`${title}: draft, 1 row`, draft?.speedUp ?? null, '>=', aim)]),
    ...Object.entries(lookups).map(([name, rows]) => {
      const lookup = rows.find(({ mode }) => mode === 'lookup');
      return targetOf(`${title}: lookup on ${name}, 1 row`, lookup?.speedUp ?? null, '>=', 2.5);
    }),
    targetOf(`${title}: measured/bound`, draft?.ofBound ?? null, '>=', 0.9),
  ];
}

/** By how much drafts are to be faster; `null` where a faster format would be chosen anyway. */
function draftAim(weightFormat: WeightFormat, fastest: WeightFormat): number | null {
  if (weightFormat === 'fp32') return 2;
  return weightFormat === fastest ? 1.5 : null;
}
