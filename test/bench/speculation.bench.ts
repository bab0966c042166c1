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
import { BenchPair, type Mode, type Pass } from './speculation/bench-pair.ts';
import { callMs } from './speculation/call-times.ts';
import { COLUMNS, type Costs, MAX_DRAFT, type Row, toRow } from './speculation/rows.ts';
import {
  allModes,
  beforeEdit,
  guardedModes,
  lookupModes,
  mixedPrompts,
  storyPrompts,
} from './speculation/workloads.ts';

const models = join(import.meta.dirname, '../../infra/models');
/** Texts of a pass at least: they differ much in how well they are drafted. */
const MIN_TEXTS = 3;

interface Pair {
  readonly label: string;
  readonly targetDir: string;
  readonly draftDir: string;
}

interface Plan {
  readonly rounds: number;
  readonly numTokens: number;
  readonly rowCounts: readonly number[];
  /** Of the rows, in turn. */
  readonly temperatures: readonly number[];
  readonly modesOf: (pair: BenchPair, numRows: number) => Mode[];
  /** What a request says of its answer before it is given. */
  readonly predict?: (answer: readonly number[]) => number[];
  /** Whether every text is asked for a second time, and that time counts. */
  readonly isAskedAgain?: boolean;
}

/** Real text and repetition, `auto`, draft model and lookup against plain decoding, per weight format. */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const { values } = parseArgs({
    args: options.rest.map((option) => `--${option}`),
    options: {
      formats: { type: 'string', default: 'fp32' },
      pair: { type: 'string', default: 'all' },
    },
  });
  const formats = values.formats.split(',').map((name) => formatSchema.parse(name));
  const pairs = pairsOf(options, values.pair);
  const tables: Table[] = [];
  const targets: Target[] = [];
  for (const pair of pairs) {
    for (const weightFormat of formats) {
      const measured = await measurePair(pair, weightFormat, options);
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
    targetDir: join(models, 'stories-target'),
    draftDir: join(models, 'stories-draft'),
  };
  if (isQuick) return [embedded];
  const targetDir = inflate(embedded.targetDir, INFLATED_TARGET, cacheDir);
  const inflated = {
    label: 'inflated target of 110 M parameters, the draft model as it is',
    targetDir,
    draftDir: embedded.draftDir,
  };
  const bothInflated = {
    label: 'both inflated, to 110 M and 16 M parameters',
    targetDir,
    draftDir: inflate(embedded.draftDir, INFLATED_DRAFT, cacheDir),
  };
  const pairsByName = { embedded: [embedded], inflated: [inflated], both: [bothInflated] };
  const all = Object.values(pairsByName).flat();
  return { ...pairsByName, all }[z.enum(['embedded', 'inflated', 'both', 'all']).parse(which)];
}

async function measurePair(
  { label, targetDir, draftDir }: Pair,
  weightFormat: WeightFormat,
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
  const plan = {
    rounds: isQuick ? 1 : (options.rounds ?? 5),
    numTokens: isQuick ? 24 : 64,
    rowCounts: isQuick ? [1] : [1, 4, 16],
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
    { ...plan, temperatures: [0, 1.3, 0, 0.8], modesOf: guardedModes },
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

/** Every mode in every round, in turn, so that a noisy machine is noisy for all of them. */
async function measureModes(
  pair: BenchPair,
  prompts: readonly (readonly number[])[],
  { rounds, numTokens, rowCounts, temperatures, modesOf, predict, isAskedAgain = false }: Plan,
  costs: Costs,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const numRows of rowCounts) {
    const modes = modesOf(pair, numRows);
    const passes = new Map<Mode, Pass[]>(modes.map((mode) => [mode, []]));
    for (let round = -1; round < rounds; round += 1) {
      // Other texts every time, as recent outputs are looked up in; few rows take several one after the other.
      const numTexts = Math.max(numRows, MIN_TEXTS);
      const start = (round + 1) * numTexts;
      const chosen = Array.from(
        { length: numTexts },
        (_, i) => prompts[(start + i) % prompts.length]!,
      );
      let expected: Pass['outputs'] | null = null;
      for (const mode of modes) {
        const predictions = predict && expected?.map(predict);
        const settings = { numTokens, temperatures, predictions };
        if (isAskedAgain) await mode.pass(chosen, settings);
        const pass = await mode.pass(chosen, settings);
        expected ??= pass.outputs;
        if (JSON.stringify(pass.outputs) !== JSON.stringify(expected)) {
          throw new Error(`${mode.name} says something else than off`);
        }
        if (round >= 0) passes.get(mode)?.push(pass);
      }
    }
    const plain = passes.get(modes[0]!)!;
    for (const [mode, all] of passes) rows.push(toRow(numRows, mode.name, all, plain, costs));
  }
  return rows;
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
      .filter(({ mode }) => mode !== 'off')
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
