import { type BenchResult, targetOf } from '../benchmark.ts';
import { median, sum } from '../statistics.ts';
import type { Comparison, Stretch } from './measure.ts';

const mean = (values: readonly number[]) => sum(values) / values.length;
const MAX_ROWS = 20;

/** What the paper's authors measured against recomputation: arXiv:2309.17453, section 4.4. */
const LEAST_SPEEDUP = 22.2;

/** Perplexities of the whole text, and how steadily it was read. */
export function summarize(stretches: readonly Stretch[]): Pick<BenchResult, 'tables' | 'targets'> {
  const perplexity = (name: 'sinks' | 'windowOnly', of = stretches) => {
    const losses = of.map((stretch) => stretch[name]).filter((loss) => loss !== null);
    return losses.length === 0 ? null : Math.exp(mean(losses));
  };
  const beside = stretches.filter(({ windowOnly }) => windowOnly !== null);
  const comparisons = comparisonsOf(stretches);
  const excess = mean(
    comparisons.map(({ sinksOfRecomputed, recomputed }) => sinksOfRecomputed - recomputed),
  );
  const settled = stretches.slice(Math.ceil(stretches.length / 10));
  const parts = cutInto(settled, 5);
  const speedup = median(
    stretches.flatMap(({ compared, spread }) =>
      compared === null || spread === null ? [] : [compared.recomputedMs / spread.mean],
    ),
  );
  return {
    tables: [
      {
        title: 'The whole text',
        columns: ['read', 'perplexity'],
        rows: [
          ['within the limit, begun anew', meanPerplexity(comparisons, 'dense')],
          ['sinks and window (the same)', perplexity('sinks', stretches.filter(isCompared))],
          ['dense past the limit (their begins)', meanPerplexity(comparisons, 'densePast')],
          ['recomputed (some tokens)', meanPerplexity(comparisons, 'recomputed')],
          ['sinks and window (the same)', meanPerplexity(comparisons, 'sinksOfRecomputed')],
          [`window without sinks, to ${beside.at(-1)?.numTokens}`, perplexity('windowOnly')],
          ['sinks and window (the same)', perplexity('sinks', beside)],
          ['sinks and window, all', perplexity('sinks')],
        ],
      },
      {
        title: 'Milliseconds per token, contexts begun anew included',
        columns: ['mean', 'p50', 'p99', 'p99 of the worst stretch', 'max'],
        rows: timesOf(stretches),
      },
      {
        title: 'Along the text',
        columns: [
          'tokens',
          'dense',
          'dense past the limit',
          'window',
          'sinks',
          'recomputed',
          'ms/token p50',
          'RSS MiB',
        ],
        rows: cutInto(stretches, MAX_ROWS).map((part) => [
          part.at(-1)!.numTokens,
          meanPerplexity(comparisonsOf(part), 'dense'),
          meanPerplexity(comparisonsOf(part), 'densePast'),
          perplexity('windowOnly', part),
          perplexity('sinks', part),
          meanPerplexity(comparisonsOf(part), 'recomputed'),
          median(part.map(({ stepMs }) => stepMs)),
          median(part.map(({ rssBytes }) => rssBytes)) / 2 ** 20,
        ]),
      },
    ],
    targets: [
      targetOf(
        'perplexity of sinks above recomputation, as a part',
        Math.expm1(excess),
        '<=',
        0.02,
      ),
      targetOf('times as fast as recomputation', speedup, '>=', LEAST_SPEEDUP),
      targetOf('spread of RSS after warm-up', spreadOf(parts, 'rssBytes'), '<=', 0.02),
      targetOf('greatest RSS after warm-up above the median', peakOf(settled), '<=', 0.02),
      targetOf('spread of time per token', spreadOf(parts, 'stepMs'), '<=', 0.05),
    ],
  };
}

/** Of stretches of one length; a p99 is the median of theirs. */
function timesOf(stretches: readonly Stretch[]): (number | null)[][] {
  const spreads = stretches.flatMap(({ spread }) => (spread === null ? [] : [spread]));
  if (spreads.length === 0) return [];
  const p99s = spreads.map(({ p99 }) => p99);
  return [
    [
      mean(spreads.map((spread) => spread.mean)),
      median(stretches.map(({ stepMs }) => stepMs)),
      median(p99s),
      Math.max(...p99s),
      Math.max(...spreads.map(({ max }) => max)),
    ],
  ];
}

function isCompared({ compared }: Stretch): boolean {
  return compared !== null;
}

function comparisonsOf(stretches: readonly Stretch[]): Comparison[] {
  return stretches.flatMap(({ compared }) => (compared === null ? [] : [compared]));
}

/** @returns `null` of none */
function meanPerplexity(
  comparisons: readonly Comparison[],
  name: 'dense' | 'densePast' | 'recomputed' | 'sinksOfRecomputed',
): number | null {
  if (comparisons.length === 0) return null;
  return Math.exp(mean(comparisons.map((comparison) => comparison[name])));
}

/** By how much the largest median of the parts is above the least. */
function spreadOf(parts: readonly (readonly Stretch[])[], name: 'rssBytes' | 'stepMs'): number {
  const medians = parts.map((part) => median(part.map((stretch) => stretch[name])));
  return Math.max(...medians) / Math.min(...medians) - 1;
}

function peakOf(stretches: readonly Stretch[]): number {
  const most = stretches.reduce((peak, { maxRssBytes }) => Math.max(peak, maxRssBytes), 0);
  return most / median(stretches.map(({ rssBytes }) => rssBytes)) - 1;
}

/** Parts of nearly equal length, at most `count`. */
function cutInto<Item>(items: readonly Item[], count: number): Item[][] {
  const numParts = Math.min(count, items.length);
  return Array.from({ length: numParts }, (_, i) =>
    items.slice(
      Math.floor((i * items.length) / numParts),
      Math.floor(((i + 1) * items.length) / numParts),
    ),
  );
}
