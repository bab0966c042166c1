import { join } from 'node:path';
import { invariant } from '../../shared/assert.ts';
import { INFLATED_TARGET, inflate } from '../support/inflate.ts';
import {
  type BenchOptions,
  type BenchResult,
  type Table,
  type Target,
  targetOf,
} from './benchmark.ts';
import { EngineHarness, type StepTime } from './engine-harness.ts';
import { ensureGguf } from './peer/gguf.ts';
import { LlamaCpp } from './peer/llama-cpp.ts';
import { PromptSource } from './prompts.ts';
import { median, sum } from './statistics.ts';

const MANY_ROWS = 16;
const OURS = 'rivulet';
const PEER = 'node-llama-cpp';
const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');

interface Size {
  readonly rounds: number;
  readonly byRows: ReadonlyMap<number, RowSize>;
}

interface RowSize {
  /** Of each row. */
  readonly promptTokens: number;
  /** Decode steps that are timed. */
  readonly steps: number;
}

interface MeasuredModel {
  readonly label: string;
  readonly modelDir: string;
}

/** One way to run the model, and what came of its rounds. */
interface Contender {
  readonly name: string;
  readonly numThreads: number;
  readonly rows: Map<number, Rounds>;
  measure(prompts: readonly (readonly number[])[], numSteps: number): Promise<Measured>;
}

interface Measured {
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly steps: readonly StepTime[];
  readonly tokenIds: readonly (readonly number[])[];
}

interface Rounds {
  readonly prefillRates: number[]; // tokens a second
  readonly decodeRates: number[];
  readonly steps: StepTime[];
}

/**
 * Tokens per second of the engine, where its time goes, and the same weights in node-llama-cpp
 * beside it.
 */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const size: Size = {
    rounds: options.isQuick ? 1 : (options.rounds ?? 5),
    byRows: new Map([
      [1, options.isQuick ? { promptTokens: 70, steps: 4 } : { promptTokens: 192, steps: 48 }],
      [
        MANY_ROWS,
        options.isQuick ? { promptTokens: 8, steps: 4 } : { promptTokens: 64, steps: 24 },
      ],
    ]),
  };
  const models = [{ label: 'embedded, 3.5 M parameters', modelDir: targetDir }];
  if (!options.isQuick) {
    const modelDir = inflate(targetDir, INFLATED_TARGET, options.cacheDir);
    models.push({ label: 'inflated, 110 M parameters', modelDir });
  }
  const tables: Table[] = [];
  const targets: Target[] = [];
  const notes = [
    `greedy, fp32 weights; ${sizesOf(size)}; medians of ${size.rounds} interleaved rounds`,
    'each with 1 thread and with one per core, the better figure compared; node-llama-cpp has the same weights as float32 GGUF, its default float16 cache of keys and values, processes of its own that are stopped while others are measured',
    '@huggingface/transformers: not measured; it feeds input_ids and past_key_values and wants whole present.* back, while our graph reads frozen blocks and gives only new keys and values',
  ];
  for (const { label, modelDir } of models) {
    const compared = await compare({ label, modelDir }, options, size);
    tables.push(...tablesOf(label, compared.contenders));
    targets.push(...targetsOf(label, compared.contenders));
    notes.push(`${label}: ${compared.agreement}`);
  }
  return { models: models.map(({ label }) => `stories-target ${label}`), tables, targets, notes };
}

function sizesOf({ byRows }: Size): string {
  return [...byRows]
    .map(
      ([rows, { promptTokens, steps }]) =>
        `${rows} x ${promptTokens} prompt tokens, then ${steps} each`,
    )
    .join('; ');
}

async function compare(
  { label, modelDir }: MeasuredModel,
  { cacheDir, numThreads, isQuick }: BenchOptions,
  size: Size,
) {
  await using stack = new AsyncDisposableStack();
  const threadCounts = isQuick ? [1] : [...new Set([1, numThreads])];
  const harnesses: EngineHarness[] = [];
  for (const numThreads of threadCounts) {
    const options = { modelDir, cacheDir, numThreads, maxSequences: MANY_ROWS };
    harnesses.push(stack.use(await EngineHarness.open(options)));
  }
  const [harness] = harnesses;
  invariant(harness !== undefined, 'at least one number of threads');
  const contenders = harnesses.map(oursOf);
  const modelPath = await ensureGguf(modelDir, cacheDir);
  const contextTokens = harness.opened.shape.maxSequenceTokens;
  for (const numThreads of threadCounts) {
    const peer = await LlamaCpp.open({ modelPath, numThreads, contextTokens });
    contenders.push(peerOf(stack.use(peer)));
  }

  const prompts = new PromptSource(harness.tokenizer);
  const agreements: number[] = [];
  for (let round = -1; round < size.rounds; round += 1) {
    const order = round % 2 === 0 ? contenders : contenders.toReversed();
    for (const [numRows, rowSize] of size.byRows) {
      const taken = prompts.take(numRows, rowSize.promptTokens);
      const outputs = new Map<string, readonly (readonly number[])[]>();
      for (const contender of order) {
        const measured = await contender.measure(taken, rowSize.steps);
        outputs.set(contender.name, measured.tokenIds);
        if (round >= 0) add(contender, { numRows, ...rowSize }, measured); // the first warms up
      }
      agreements.push(...agreementsOf(outputs));
    }
    console.error(`${label}: round ${round + 1} of ${size.rounds}`);
  }
  const same = agreements.filter((share) => share === 1).length;
  const agreement = `${same} of ${agreements.length} texts are the peer's token for token, on average the first ${(100 * (sum(agreements) / agreements.length)).toFixed(0)} % of a text`;
  return { contenders, agreement };
}

function oursOf(harness: EngineHarness): Contender {
  return {
    name: OURS,
    numThreads: harness.numThreads,
    rows: new Map(),
    async measure(prompts, numSteps) {
      const { prefillMs, steps, tokenIds } = await harness.decode(prompts, numSteps);
      return { prefillMs, decodeMs: sum(steps.map(({ total }) => total)), steps, tokenIds };
    },
  };
}

function peerOf(peer: LlamaCpp): Contender {
  return {
    name: PEER,
    numThreads: peer.numThreads,
    rows: new Map(),
    async measure(prompts, numSteps) {
      return { ...(await peer.generate({ prompts, numTokens: numSteps + 1 })), steps: [] };
    },
  };
}

function add(
  contender: Contender,
  { numRows, promptTokens, steps }: RowSize & { readonly numRows: number },
  measured: Measured,
): void {
  const rounds = contender.rows.get(numRows) ?? { prefillRates: [], decodeRates: [], steps: [] };
  contender.rows.set(numRows, rounds);
  rounds.prefillRates.push((1000 * numRows * promptTokens) / measured.prefillMs);
  rounds.decodeRates.push((1000 * numRows * steps) / measured.decodeMs);
  rounds.steps.push(...measured.steps);
}

/** How much of each text ours and the peer's have in common, from its start. */
function agreementsOf(outputs: ReadonlyMap<string, readonly (readonly number[])[]>): number[] {
  const [ours = [], theirs = []] = outputs.values();
  return ours.map((tokenIds, row) => {
    const other = theirs[row] ?? [];
    const length = Math.min(tokenIds.length, other.length);
    const differs = tokenIds.findIndex((tokenId, i) => i < length && tokenId !== other[i]);
    return differs < 0 ? 1 : differs / length;
  });
}

function tablesOf(label: string, contenders: readonly Contender[]): Table[] {
  const rates = contenders.flatMap(({ name, numThreads, rows }) => {
    const rate = (numRows: number, kind: 'prefillRates' | 'decodeRates') =>
      median(rows.get(numRows)![kind]);
    const decode = [rate(1, 'decodeRates'), rate(MANY_ROWS, 'decodeRates')];
    return [[name, numThreads, ...decode, rate(1, 'prefillRates')]];
  });
  const ours = bestOf(contenders, OURS);
  const steps = [1, MANY_ROWS].map((numRows) => {
    const { steps } = ours.rows.get(numRows)!;
    const part = (pick: (step: StepTime) => number) => median(steps.map(pick));
    return [
      numRows,
      part(({ total }) => total),
      part(({ session }) => session),
      part(({ runner, session }) => runner - session),
      part(({ total, runner }) => total - runner),
      `${(100 * hostShare(steps)).toFixed(1)} %`,
    ];
  });
  return [
    {
      title: `Tokens per second, ${label}`,
      columns: ['', 'threads', 'decode, 1 row', `decode, ${MANY_ROWS} rows`, 'prefill, 1 row'],
      rows: rates,
    },
    {
      title: `Milliseconds of a decode step, ${label}, ${ours.numThreads} thread(s)`,
      columns: ['rows', 'step', 'model', 'its inputs and outputs', 'engine', 'outside the model'],
      rows: steps,
    },
  ];
}

function hostShare(steps: readonly StepTime[]): number {
  return median(steps.map(({ total, session }) => (total - session) / total));
}

/** Of one name, the number of threads that decodes a row fastest. */
function bestOf(contenders: readonly Contender[], name: string): Contender {
  return contenders
    .filter((contender) => contender.name === name)
    .reduce((best, other) => (decodeRate(other) > decodeRate(best) ? other : best));
}

function decodeRate({ rows }: Contender): number {
  return median(rows.get(1)!.decodeRates);
}

function targetsOf(label: string, contenders: readonly Contender[]): Target[] {
  const ours = bestOf(contenders, OURS);
  const ratio = decodeRate(ours) / decodeRate(bestOf(contenders, PEER));
  const share = hostShare(ours.rows.get(MANY_ROWS)!.steps);
  return [
    targetOf(`single-row decode against ${PEER}, ${label}`, ratio, '>=', 1.3),
    targetOf(`share of a step at ${MANY_ROWS} rows outside the model, ${label}`, share, '<', 0.1),
  ];
}
