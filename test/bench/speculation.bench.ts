import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import type { WeightFormat } from '../../worker/model/builder.ts';
import { INFLATED_DRAFT, INFLATED_TARGET, inflate } from '../support/inflate.ts';
import type { BenchOptions, BenchResult, Table, Target } from './benchmark.ts';
import { type Measured, neverSlower, oneRowAims } from './speculation/aims.ts';
import { BenchPair } from './speculation/bench-pair.ts';
import { type Costs, measureCosts, toCostTable } from './speculation/costs.ts';
import { measurePlainSpeed, toSpeedTable } from './speculation/plain-speed.ts';
import { measureModes } from './speculation/rounds.ts';
import { COLUMNS } from './speculation/rows.ts';
import {
  allModes,
  beforeEdit,
  guardedModes,
  lookupModes,
  mixedPrompts,
  storyPrompts,
} from './speculation/workloads.ts';

const models = join(import.meta.dirname, '../../infra/models');
/**
 * Of a trace whose requests come and go, in turn: lengths as parts of the longest, and
 * temperatures. With stories and random tokens by turns, any of these come with any.
 */
const LENGTHS = [1, 0.5, 0.75, 0.25, 1];
const TEMPERATURES = [0, 1.3, 0.8];

interface Pair {
  readonly label: string;
  /** Whether the aims are for it. */
  readonly isAimedAt: boolean;
  /**
   * Longest answers: those of a quick model are long, since passes of a tenth of a second tell only
   * noise.
   */
  readonly maxTokens: number;
  readonly targetDir: string;
  readonly draftDir: string;
}

/**
 * Real text and repetition, `auto`, draft model and lookup against plain decoding, per weight
 * format.
 */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const { values } = parseArgs({
    args: options.rest.map((option) => `--${option}`),
    options: {
      formats: { type: 'string', default: 'fp32' },
      pair: { type: 'string', default: 'all' },
      rows: { type: 'string', default: options.isQuick ? '1' : '1,4,16' },
    },
  });
  const formats = values.formats.split(',').map((name) => formatSchema.parse(name));
  const rowCounts = values.rows.split(',').map(Number);
  const pairs = pairsOf(options, values.pair);
  const tables: Table[] = [];
  const targets: Target[] = [];
  for (const pair of pairs) {
    const { label, targetDir, isAimedAt } = pair;
    const { cacheDir, numThreads } = options;
    const target = { modelDir: targetDir, cacheDir, numThreads };
    const speed = await measurePlainSpeed(target, numCallsOf(options));
    tables.push(toSpeedTable(label, speed));
    for (const weightFormat of formats) {
      const { costs, measured } = await measurePair(pair, { weightFormat, rowCounts }, options);
      tables.push(toCostTable(measured.title, costs), ...tablesOf(measured));
      targets.push(...neverSlower(measured));
      if (!isAimedAt || !rowCounts.includes(1)) continue;
      targets.push(...oneRowAims(measured, weightFormat, speed.fastest));
    }
  }
  return {
    models: pairs.map(({ label }) => label),
    tables,
    targets,
    notes: [
      'greedy; the draft model in fp32; outputs of all modes are compared token for token',
      'mixed texts: stories (at temperature 0 easy, at 0.8 and 1.3 hard) and random tokens by turns, answers of all lengths up to the longest, two a row; `off, again` is the noise',
      'edit: the answer before an edit, one token in 24 otherwise, is sent as its `prediction`; repetition: the same answer was given to the tenant before (the embedded models do not follow a wish to repeat or edit)',
      'bound: (1 - a^(g+1)) / ((1 - a)(g c + v(g+1))), the greatest over draft lengths g, with a the accepted share of all drafted tokens that were compared, c from the runs of the draft model within the passes (twice as slow as one after the other: the target leaves it nothing in the caches), v from calls with as many rows, interleaved with those of one token; what was measured against it is decoding alone, without the step that reads the prompt',
      'no GPU was at hand: WebGPU was not measured',
    ],
  };
}

/** Of each kind, to know what it takes. */
function numCallsOf({ isQuick }: BenchOptions): number {
  return isQuick ? 3 : 15;
}

const formatSchema = z.custom<WeightFormat>((name) =>
  ['fp32', 'int8', 'q8', 'q4'].includes(String(name)),
);

function pairsOf({ isQuick, cacheDir }: BenchOptions, which: string): Pair[] {
  const embedded = {
    label: 'embedded pair, 3.5 M and 0.4 M parameters',
    isAimedAt: false,
    maxTokens: 256,
    targetDir: join(models, 'stories-target'),
    draftDir: join(models, 'stories-draft'),
  };
  if (isQuick) return [embedded];
  const targetDir = inflate(embedded.targetDir, INFLATED_TARGET, cacheDir);
  const inflated = {
    label: 'inflated target of 110 M parameters, the draft model as it is',
    isAimedAt: true,
    maxTokens: 64,
    targetDir,
    draftDir: embedded.draftDir,
  };
  const bothInflated = {
    label: 'both inflated, to 110 M and 16 M parameters',
    isAimedAt: false,
    maxTokens: 64,
    targetDir,
    draftDir: inflate(embedded.draftDir, INFLATED_DRAFT, cacheDir),
  };
  const pairsByName = { embedded: [embedded], inflated: [inflated], both: [bothInflated] };
  const all = Object.values(pairsByName).flat();
  return { ...pairsByName, all }[z.enum(['embedded', 'inflated', 'both', 'all']).parse(which)];
}

interface Settings {
  readonly weightFormat: WeightFormat;
  readonly rowCounts: readonly number[];
}

async function measurePair(
  { label, targetDir, draftDir, maxTokens }: Pair,
  { weightFormat, rowCounts }: Settings,
  options: BenchOptions,
): Promise<{ costs: readonly Costs[]; measured: Measured }> {
  const { cacheDir, numThreads, isQuick } = options;
  await using pair = await BenchPair.open({
    targetDir,
    draftDir,
    weightFormat,
    cacheDir,
    numThreads,
  });
  const maxLength = isQuick ? 24 : maxTokens;
  const costs: Costs[] = [];
  for (const numRows of rowCounts) {
    costs.push(await measureCosts(pair, numRows, numCallsOf(options)));
  }
  const plan = {
    rounds: isQuick ? 1 : (options.rounds ?? 5),
    costs,
    textsPerRow: 1,
    lengths: [maxLength],
    temperatures: [0],
    modesOf: allModes,
  };
  const looking = {
    ...plan,
    costs: costs.filter(({ numRows }) => numRows === 1),
    modesOf: lookupModes,
  };
  const guarded = {
    ...plan,
    textsPerRow: isQuick ? 1 : 2,
    lengths: LENGTHS.map((part) => Math.round(part * maxLength)),
    temperatures: TEMPERATURES,
    modesOf: guardedModes,
  };
  const prompts = storyPrompts(pair);
  const measured = {
    title: `${label}, ${weightFormat}`,
    story: await measureModes(pair, prompts, plan),
    edited: await measureModes(pair, prompts, { ...looking, predict: beforeEdit }),
    repeated: await measureModes(pair, prompts, { ...looking, isAskedAgain: true }),
    mixed: await measureModes(pair, mixedPrompts(pair), guarded),
  };
  return { costs, measured };
}

function tablesOf({ title, story, edited, repeated, mixed }: Measured): Table[] {
  const kinds = {
    stories: story,
    edit: edited,
    repetition: repeated,
    'easy, hard and random texts mixed': mixed,
  };
  return Object.entries(kinds)
    .filter(([, rows]) => rows.length > 0)
    .map(([kind, rows]) => ({
      title: `${title}: ${kind}`,
      columns: COLUMNS,
      rows: rows.map(({ cells }) => cells),
    }));
}
