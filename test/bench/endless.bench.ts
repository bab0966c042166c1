import {
  appendFileSync,
  existsSync,
  globSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import type { TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { toOpenedModel } from '../../worker/thread/opened-model.ts';
import prompts from '../fixtures/prompts.json' with { type: 'json' };
import type { BenchOptions, BenchResult } from './benchmark.ts';
import { drawChart } from './endless/chart.ts';
import { measureLeaning } from './endless/leaning.ts';
import {
  Measurement,
  type MeasureOptions,
  PAST_CONTEXTS,
  type Stretch,
} from './endless/measure.ts';
import { summarize } from './endless/summary.ts';

const modelDir = join(import.meta.dirname, '../../infra/models/stories-target');
const chartPath = join(import.meta.dirname, 'endless.svg');
const SINK_TOKENS = 4;

/**
 * Reads texts without end behind attention sinks, beside the other ways there are.
 *
 * `--option FILE` or `DIR` names texts, `tokens=N` how much of them is read (again from the begin,
 * if they end before), `single=N` how many of each 10,000 are read one at a time, `sampled=N` how
 * many are recomputed, `every=N` in which of the stretches, `window=N` how much is read with a
 * window alone, too, `log=FILE` where every stretch is noted as it comes, and `from=FILE` such a
 * file to sum up in place of measuring.
 */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const setting = (name: string) =>
    options.rest.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  const numTokens = Number(setting('tokens') ?? (options.isQuick ? 6000 : 200_000));
  const from = setting('from');
  const measured = { stretches: [] as Stretch[], notes: [] as string[] };
  if (from !== undefined) measured.stretches.push(...readLog(from));
  else {
    const sizes = {
      stretchTokens: options.isQuick ? 2000 : 10_000,
      numSingle: Number(setting('single') ?? (options.isQuick ? 200 : 10_000)),
      numRecomputed: Number(setting('sampled') ?? (options.isQuick ? 10 : 200)),
      comparedEvery: Number(setting('every') ?? 1),
      numWindowOnly: Number(setting('window') ?? Infinity),
    };
    await measure({ ...options, numTokens, sizes, logPath: setting('log') ?? null }, measured);
  }
  if (!options.isQuick) writeFileSync(chartPath, chartOf(measured.stretches));
  const { tables, targets } = summarize(measured.stretches);
  const leaning = await measureLeaning(options.cacheDir, options.isQuick ? 1000 : 100_000);
  return {
    models: ['the embedded target, 3.5 M parameters, cache of 512 tokens'],
    tables: [...tables, leaning.table],
    targets: [...targets, ...leaning.targets],
    notes: [
      ...measured.notes,
      'contexts are begun anew every eight windows, as they are served; the window alone never is',
      `dense past the limit keeps all in view, the first ${PAST_CONTEXTS} contexts of a stretch, and counts what comes after one`,
      'perplexities on texts that the model was not made for are high; what counts is how they compare',
    ],
  };
}

interface MeasuredText extends BenchOptions {
  readonly numTokens: number;
  readonly sizes: Omit<MeasureOptions, 'policy' | 'bosTokenId'>;
  readonly logPath: string | null;
}

async function measure(
  { cacheDir, numThreads, rest, numTokens, sizes, logPath }: MeasuredText,
  { stretches, notes }: { stretches: Stretch[]; notes: string[] },
): Promise<void> {
  const model = await openModel({
    modelDir,
    cacheDir,
    numThreads,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
  });
  const { runner, checkpoint } = model;
  const { bosTokenId } = checkpoint;
  const { text, numDistinct } = encode(rest, toOpenedModel(model).tokenizerFiles, {
    bosTokenId,
    length: numTokens + SINK_TOKENS + 1,
  });
  notes.push(`the texts have ${numDistinct} tokens`);
  collectGarbage();
  const policy = {
    type: 'sinks' as const,
    sinkTokens: SINK_TOKENS,
    windowTokens: runner.shape.maxSequenceTokens - SINK_TOKENS,
  };
  const measurement = new Measurement(runner, text, { policy, bosTokenId, ...sizes });
  await measurement.start();
  while (stretches.length < Math.floor(numTokens / sizes.stretchTokens)) {
    const stretch = await measurement.next();
    stretches.push(stretch);
    if (logPath === null) continue;
    appendFileSync(logPath, `${JSON.stringify(stretch)}\n`);
    console.log(`${new Date().toISOString()} ${JSON.stringify(stretch)}`);
  }
  await runner.close();
}

/** The texts as tokens, one after the other, as often as it takes. */
function encode(
  rest: readonly string[],
  tokenizerFiles: TokenizerFiles,
  { bosTokenId, length }: { readonly bosTokenId: number | null; readonly length: number },
): { readonly text: Int32Array; readonly numDistinct: number } {
  const files = rest.filter((each) => !each.includes('=')).flatMap(filesOf);
  const texts =
    files.length > 0 ? files.map((path) => readFileSync(path, 'utf8')) : [prompts.join('\n')];
  // It remembers much, and goes with this call.
  const tokenizer = createTokenizer(tokenizerFiles);
  const encoded = texts.map((text) => tokenizer.encode(text, { addSpecialTokens: false }));
  const numDistinct = encoded.reduce((sum, tokenIds) => sum + tokenIds.length, 0);
  return { text: joined(encoded, bosTokenId, length), numDistinct };
}

/** What the encoding left behind is not memory of the reading. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return globSync(join(path, '*.txt')).sort();
}

function joined(
  texts: readonly (readonly number[])[],
  bosTokenId: number | null,
  length: number,
): Int32Array {
  const all = new Int32Array(length);
  let numFilled = 0;
  if (bosTokenId !== null) {
    all[0] = bosTokenId;
    numFilled = 1;
  }
  for (let i = 0; numFilled < length; i += 1) {
    const text = texts[i % texts.length]!.slice(0, length - numFilled);
    all.set(text, numFilled);
    numFilled += text.length;
  }
  return all;
}

const stretchSchema = z.object({
  numTokens: z.number(),
  sinks: z.number(),
  windowOnly: z.number().nullable(),
  stepMs: z.number(),
  spread: z.object({ mean: z.number(), p99: z.number(), max: z.number() }).nullable(),
  rssBytes: z.number(),
  maxRssBytes: z.number(),
  compared: z
    .object({
      dense: z.number(),
      densePast: z.number(),
      recomputed: z.number(),
      sinksOfRecomputed: z.number(),
      recomputedMs: z.number(),
    })
    .nullable(),
});

function readLog(path: string): Stretch[] {
  if (!existsSync(path)) throw new Error(`no file ${path}`);
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  return lines.map((line) => stretchSchema.parse(JSON.parse(line)));
}

function chartOf(stretches: readonly Stretch[]): string {
  const loss: Record<string, { color: string; of: (stretch: Stretch) => number | undefined }> = {
    'window without sinks': { color: '#c0392b', of: ({ windowOnly }) => windowOnly ?? undefined },
    'sinks and window': { color: '#2471a3', of: ({ sinks }) => sinks },
    'recomputed (sampled)': { color: '#27ae60', of: ({ compared }) => compared?.recomputed },
    'within the limit': { color: '#7f8c8d', of: ({ compared }) => compared?.dense },
    'past the limit': { color: '#d68910', of: ({ compared }) => compared?.densePast },
  };
  const title = 'Perplexity per 10,000 tokens, cache of 512';
  return drawChart(
    title,
    Object.entries(loss).map(([name, { color, of }]) => ({
      name,
      color,
      values: stretches.map(of).map((value) => (value === undefined ? null : Math.exp(value))),
    })),
    { numTokens: stretches.at(-1)?.numTokens ?? 0 },
  );
}
