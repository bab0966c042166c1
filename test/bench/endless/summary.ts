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
    stretches.flatMap(({ compared, stepMs }) =>
      compared === null ? [] : [compared.recomputedMs / stepMs],
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
          ['recomputed (some tokens)', meanPerplexity(comparisons, 'recomputed')],
          ['sinks and window (the same)', meanPerplexity(comparisons, 'sinksOfRecomputed')],
          [`window without sinks, to ${beside.at(-1)?.numTokens}`, perplexity('windowOnly')],
          ['sinks and window (the same)', perplexity('sinks', beside)],
          ['sinks and window, all', perplexity('sinks')],
        ],
      },
      {
        title: 'Along the text',
        columns: ['tokens', 'dense', 'window', 'sinks', 'recomputed', 'ms/token', 'RSS MiB'],
        rows: cutInto(stretches, MAX_ROWS).map((part) => [
          part.at(-1)!.numTokens,
          meanPerplexity(comparisonsOf(part), 'dense'),
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
      targetOf('spread of time per token', spreadOf(parts, 'stepMs'), '<=', 0.05),
    ],
  };
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
  name: 'dense' | 'recomputed' | 'sinksOfRecomputed',
): number | null {
  if (comparisons.length === 0) return null;
  return Math.exp(mean(comparisons.map((comparison) => comparison[name])));
}

/** By how much the largest median of the parts is above the least. */
function spreadOf(parts: readonly (readonly Stretch[])[], name: 'rssBytes' | 'stepMs'): number {
  const medians = parts.map((part) => median(part.map((stretch) => stretch[name])));
  return Math.max(...medians) / Math.min(...medians) - 1;
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
