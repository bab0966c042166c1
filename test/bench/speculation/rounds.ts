import { type Rng, seededRng } from '../../support/random.ts';
import type { BenchPair, Mode, Pass, PassTime } from './bench-pair.ts';
import type { Costs } from './costs.ts';
import { type Row, toRow } from './rows.ts';
import { textAt } from './workloads.ts';

/** Texts of a pass at least: they differ much in how well they are drafted. */
const MIN_TEXTS = 3;

/** One kind of text, and how it is asked for. */
export interface Plan {
  readonly rounds: number;
  /** By rows. */
  readonly costs: readonly Costs[];
  /** Texts of a pass for each row. */
  readonly textsPerRow: number;
  /** Of the texts, in turn. */
  readonly lengths: readonly number[];
  readonly temperatures: readonly number[];
  readonly modesOf: (pair: BenchPair, numRows: number) => Mode[];
  /** What a request says of its answer before it is given. */
  readonly predict?: (answer: readonly number[]) => number[];
  /** Whether every text is asked for a second time, and that time counts. */
  readonly isAskedAgain?: boolean;
}

/** Every mode in every round, in any order, so that a noisy machine is noisy for all of them. */
export async function measureModes(
  pair: BenchPair,
  prompts: readonly (readonly number[])[],
  plan: Plan,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const costs of plan.costs) {
    const { numRows } = costs;
    const modes = plan.modesOf(pair, numRows);
    const rng = seededRng(numRows);
    const passes = new Map<Mode, Pass[]>(modes.map((mode) => [mode, []]));
    // Other texts every time, as recent outputs are looked up in; few rows take several one after
    // the other.
    const numTexts = Math.max(MIN_TEXTS, numRows * plan.textsPerRow);
    for (let round = 0; round <= plan.rounds; round += 1) {
      const texts = Array.from({ length: numTexts }, (_, i) =>
        textAt(prompts, round * numTexts + i),
      );
      const passByMode = await measureRound(modes, texts, plan, rng);
      if (round === 0) continue; // for the code to be compiled
      for (const [mode, pass] of passByMode) passes.get(mode)!.push(pass);
    }
    const plain = meanOf(modes.filter(isPlain).map((mode) => passes.get(mode)!));
    for (const [mode, all] of passes) rows.push(toRow(mode.name, all, plain, costs));
  }
  return rows;
}

/** @throws {Error} when a mode says something else than the first one */
async function measureRound(
  modes: readonly Mode[],
  texts: readonly (readonly number[])[],
  { lengths, temperatures, predict, isAskedAgain = false }: Plan,
  rng: Rng,
): Promise<Map<Mode, Pass>> {
  const passByMode = new Map<Mode, Pass>();
  let predictions: readonly (readonly number[])[] | undefined;
  if (predict !== undefined) {
    const { outputs } = await modes[0]!.pass(texts, { lengths, temperatures });
    predictions = outputs.map(predict);
  }
  for (const mode of shuffled(modes, rng)) {
    const settings = { lengths, temperatures, predictions };
    if (isAskedAgain) await mode.pass(texts, settings);
    passByMode.set(mode, await mode.pass(texts, settings));
  }
  const [expected, ...others] = modes.map((mode) => JSON.stringify(passByMode.get(mode)!.outputs));
  const differing = others.findIndex((outputs) => outputs !== expected);
  if (differing !== -1)
    throw new Error(`${modes[1 + differing]!.name} says something else than off`);
  return passByMode;
}

function isPlain({ name }: Mode): boolean {
  return name.startsWith('off');
}

/** What plain decoding took, round by round. */
function meanOf(all: readonly (readonly Pass[])[]): PassTime[] {
  const mean = (values: readonly number[]) => values.reduce((sum, ms) => sum + ms, 0) / all.length;
  return all[0]!.map((_, round) => ({
    ms: mean(all.map((passes) => passes[round]!.ms)),
    decodeMs: mean(all.map((passes) => passes[round]!.decodeMs)),
  }));
}

function shuffled<T>(items: readonly T[], rng: Rng): T[] {
  return items
    .map((item) => ({ item, place: rng() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
