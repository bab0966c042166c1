import { type BenchResult, targetOf } from '../benchmark.ts';
import { median, sum } from '../statistics.ts';
import type { Stretch } from './measure.ts';

const mean = (values: readonly number[]) => sum(values) / values.length;
const MAX_ROWS = 20;

/** What the paper's authors measured against recomputation: arXiv:2309.17453, section 4.4. */
const LEAST_SPEEDUP = 22.2;

/** Perplexities of the whole text, and how steadily it was read. */
export function summarize(stretches: readonly Stretch[]): Pick<BenchResult, 'tables' | 'targets'> {
  const perplexity = (name: 'sinks' | 'windowOnly' | 'dense' | 'recomputed') =>
    Math.exp(mean(stretches.map((stretch) => stretch[name])));
  const excess = mean(
    stretches.map(({ sinksOfRecomputed, recomputed }) => sinksOfRecomputed - recomputed),
  );
  const settled = stretches.slice(Math.ceil(stretches.length / 10));
  const parts = cutInto(settled, 5);
  const speedup = median(stretches.map(({ recomputedMs, stepMs }) => recomputedMs / stepMs));
  return {
    tables: [
      {
        title: 'The whole text',
        columns: ['read', 'perplexity'],
        rows: [
          ['within the limit, begun anew', perplexity('dense')],
          ['window without sinks', perplexity('windowOnly')],
          ['sinks and window', perplexity('sinks')],
          ['recomputed (some tokens)', perplexity('recomputed')],
          ['sinks and window (the same)', perplexity('recomputed') * Math.exp(excess)],
        ],
      },
      {
        title: 'Along the text',
        columns: ['tokens', 'dense', 'window', 'sinks', 'recomputed', 'ms/token', 'RSS MiB'],
        rows: cutInto(stretches, MAX_ROWS).map((part) => [
          part.at(-1)!.numTokens,
          Math.exp(mean(part.map(({ dense }) => dense))),
          Math.exp(mean(part.map(({ windowOnly }) => windowOnly))),
          Math.exp(mean(part.map(({ sinks }) => sinks))),
          Math.exp(mean(part.map(({ recomputed }) => recomputed))),
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
