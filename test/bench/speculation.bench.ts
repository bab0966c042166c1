import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import type { WeightFormat } from '../../worker/model/builder.ts';
import { INFLATED_DRAFT, INFLATED_TARGET, inflate } from '../support/inflate.ts';
import {
  type BenchOptions,
  type BenchResult,
  type Table,
  type Target,
  targetOf,
} from './benchmark.ts';
import { BenchPair } from './speculation/bench-pair.ts';
import { callMs } from './speculation/call-times.ts';
import { measureModes } from './speculation/rounds.ts';
import { COLUMNS, type Costs, MAX_DRAFT, type Row } from './speculation/rows.ts';
import {
  allModes,
  beforeEdit,
  guardedModes,
  lookupModes,
  mixedPrompts,
  storyPrompts,
} from './speculation/workloads.ts';

const models = join(import.meta.dirname, '../../infra/models');
/** Of a trace whose requests come and go, as parts of the longest. */
const LENGTHS = [1, 0.5, 0.75, 0.25, 1];

interface Pair {
  readonly label: string;
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
    for (const weightFormat of formats) {
      const measured = await measurePair(pair, { weightFormat, rowCounts }, options);
      tables.push(...measured.tables);
      targets.push(...measured.targets);
    }
  }
  return {
    models: pairs.map(({ label }) => label),
    tables,
    targets,
    notes: [
      'greedy; the draft model in fp32; outputs of all modes are compared token for token',
      'mixed texts: answers of all lengths up to the longest and of temperatures 0, 0.8 and 1.3, two a row; `off, again` is the noise',
      'edit: the answer before an edit, one token in 24 otherwise, is sent as its `prediction`; repetition: the same answer was given to the tenant before (the embedded models do not follow a wish to repeat or edit)',
      'bound: (1 - a^(g+1)) / ((1 - a)(g c + v(g+1))), the greatest over draft lengths g, with a the accepted share of all drafted tokens that were compared, c from the runs of the draft model within the passes (twice as slow as one after the other: the target leaves it nothing in the caches), v measured; what was measured against it is decoding alone, without the step that reads the prompt',
      'no GPU was at hand: WebGPU was not measured',
    ],
  };
}

const formatSchema = z.custom<WeightFormat>((name) =>
  ['fp32', 'int8', 'q8', 'q4'].includes(String(name)),
);

function pairsOf({ isQuick, cacheDir }: BenchOptions, which: string): Pair[] {
  const embedded = {
    label: 'embedded pair, 3.5 M and 0.4 M parameters',
    maxTokens: 256,
    targetDir: join(models, 'stories-target'),
    draftDir: join(models, 'stories-draft'),
  };
  if (isQuick) return [embedded];
  const targetDir = inflate(embedded.targetDir, INFLATED_TARGET, cacheDir);
  const inflated = {
    label: 'inflated target of 110 M parameters, the draft model as it is',
    maxTokens: 64,
    targetDir,
    draftDir: embedded.draftDir,
  };
  const bothInflated = {
    label: 'both inflated, to 110 M and 16 M parameters',
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
): Promise<{ tables: Table[]; targets: Target[] }> {
  const { cacheDir, numThreads, isQuick } = options;
  await using pair = await BenchPair.open({
    targetDir,
    draftDir,
    weightFormat,
    cacheDir,
    numThreads,
  });
  const maxLength = isQuick ? 24 : maxTokens;
  const plan = {
    rounds: isQuick ? 1 : (options.rounds ?? 5),
    rowCounts,
    textsPerRow: 1,
    lengths: [maxLength],
    temperatures: [0],
    modesOf: allModes,
  };
  const title = `${label}, ${weightFormat}`;
  const costs = await measureCosts(pair, isQuick ? 3 : 15);
  const story = await measureModes(pair, storyPrompts(pair), plan, costs);
  const looking = { ...plan, rowCounts: [1], modesOf: lookupModes };
  const edited = await measureModes(
    pair,
    storyPrompts(pair),
    { ...looking, predict: beforeEdit },
    costs,
  );
  const repeated = await measureModes(
    pair,
    storyPrompts(pair),
    { ...looking, isAskedAgain: true },
    costs,
  );
  const mixed = await measureModes(
    pair,
    mixedPrompts(pair),
    {
      ...plan,
      textsPerRow: isQuick ? 1 : 2,
      lengths: LENGTHS.map((part) => Math.round(part * maxLength)),
      temperatures: [0, 1.3, 0, 0.8],
      modesOf: guardedModes,
    },
    costs,
  );
  const costTable = {
    title: `${title}: milliseconds of a call`,
    columns: ['', ...costs.verify.map((_, i) => `${i + 1} new`)],
    rows: [
      ['target', ...costs.verify.map((ms) => ms.toFixed(2))],
      ['v', ...costs.verify.map((ms) => (ms / costs.verify[0]!).toFixed(2))],
      ['draft', costs.draftMs.toFixed(2)],
    ],
  };
  const tables = [
    costTable,
    { title: `${title}: stories`, columns: COLUMNS, rows: story.map(({ cells }) => cells) },
    { title: `${title}: edit`, columns: COLUMNS, rows: edited.map(({ cells }) => cells) },
    { title: `${title}: repetition`, columns: COLUMNS, rows: repeated.map(({ cells }) => cells) },
    {
      title: `${title}: easy, hard and random texts mixed`,
      columns: COLUMNS,
      rows: mixed.map(({ cells }) => cells),
    },
  ];
  return { tables, targets: targetsOf(title, weightFormat, { story, edited, repeated, mixed }) };
}

async function measureCosts(pair: BenchPair, numCalls: number): Promise<Costs> {
  const verify: number[] = [];
  for (let m = 1; m <= MAX_DRAFT + 1; m += 1) {
    verify.push(await callMs(pair.target, { numRows: 1, numNewTokens: m }, numCalls));
  }
  return { verify, draftMs: await callMs(pair.draft, { numRows: 1, numNewTokens: 1 }, numCalls) };
}

function targetsOf(
  title: string,
  weightFormat: WeightFormat,
  {
    story,
    edited,
    repeated,
    mixed,
  }: Readonly<Record<'story' | 'edited' | 'repeated' | 'mixed', readonly Row[]>>,
): Target[] {
  const never = [
    ...story
      .filter(({ mode }) => mode === 'auto')
      .map((row) => ({ ...row, mode: 'auto on stories' })),
    ...mixed
      .filter(({ mode }) => mode.startsWith('auto'))
      .map((row) => ({ ...row, mode: `${row.mode} on mixed texts` })),
  ].map(({ numRows, mode, speedUp }) =>
    targetOf(`${title}: ${mode}, ${numRows} rows`, speedUp, '>=', 0.98),
  );
  if (!title.startsWith('inflated target')) return never;
  const draft = story.find(({ mode, numRows }) => mode === 'draft' && numRows === 1);
  const lookups = { edits: edited, repetition: repeated };
  return [
    ...never,
    targetOf(
      `${title}: draft, 1 row`,
      draft?.speedUp ?? null,
      '>=',
      weightFormat === 'fp32' ? 2 : 1.5,
    ),
    ...Object.entries(lookups).map(([name, rows]) => {
      const lookup = rows.find(({ mode }) => mode === 'lookup');
      return targetOf(`${title}: lookup on ${name}, 1 row`, lookup?.speedUp ?? null, '>=', 2.5);
    }),
    targetOf(`${title}: measured/bound`, draft?.ofBound ?? null, '>=', 0.9),
  ];
}
