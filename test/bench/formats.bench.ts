import { join } from 'node:path';
import { WEIGHT_FORMATS, type WeightFormat } from '../../worker/model/builder.ts';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelInput, ModelRunner } from '../../worker/model/runner.ts';
import { type CallSize, createSampleCall } from '../../worker/model/sample-call.ts';
import { checkInvariance } from '../../worker/model/self-check.ts';
import { INFLATED_TARGET, inflate } from '../support/inflate.ts';
import { type BenchOptions, type BenchResult, type Table, targetOf } from './benchmark.ts';
import { median } from './statistics.ts';

const NUM_FROZEN = 256;
const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');

/** Rows x new tokens; a prompt of 128 tokens is read in two chunks, here of two rows. */
const SIZES: readonly (CallSize & { readonly name: string; readonly isPrompt?: boolean })[] = [
  { name: '1x1', numRows: 1, numNewTokens: 1 },
  { name: '1x2', numRows: 1, numNewTokens: 2 },
  { name: '1x4', numRows: 1, numNewTokens: 4 },
  { name: '1x5', numRows: 1, numNewTokens: 5 },
  { name: '1x8', numRows: 1, numNewTokens: 8 },
  { name: '8x1', numRows: 8, numNewTokens: 1 },
  { name: '16x1', numRows: 16, numNewTokens: 1 },
  { name: '16x5', numRows: 16, numNewTokens: 5 },
  { name: '128 prompt tokens', numRows: 2, numNewTokens: 64, isPrompt: true },
];

type Contender = readonly [WeightFormat, ModelRunner];

/** What a call of the model costs in each weight format, by its size. */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const rounds = options.isQuick ? 1 : (options.rounds ?? 9);
  const models = [{ label: 'embedded', modelDir: targetDir }];
  if (!options.isQuick) {
    const modelDir = inflate(targetDir, INFLATED_TARGET, options.cacheDir);
    models.push({ label: 'inflated', modelDir });
  }
  const tables: Table[] = [];
  const targets = [];
  for (const { label, modelDir } of models) {
    const contenders = await openAll(modelDir, options);
    const times = await measure(contenders, rounds);
    for (const [, runner] of contenders) await runner.close();
    const columns = ['format', ...SIZES.map(({ name }) => name)];
    const rowsOf = (cell: (format: WeightFormat, i: number) => number) =>
      contenders.map(([format]) => [format, ...SIZES.map((_, i) => cell(format, i))]);
    const ms = (format: WeightFormat, i: number) => times.get(format)![i]!;
    tables.push(
      { title: `${label}, milliseconds`, columns, rows: rowsOf(ms) },
      {
        title: `${label}, times as fast as fp32`,
        columns,
        rows: rowsOf((format, i) => ms('fp32', i) / ms(format, i)),
      },
    );
    if (label !== 'inflated') continue;
    const fastest = Math.min(ms('int8', 0), ms('q8', 0));
    const name = 'inflated, 1x1, 8-bit against fp32';
    targets.push(targetOf(name, ms('fp32', 0) / fastest, '>=', 2));
  }
  return {
    models: ['embedded: 3.5 M parameters', 'inflated: 110 M parameters, the same function'],
    tables,
    targets,
    notes: [
      `rows x new tokens after ${NUM_FROZEN} tokens, ${options.numThreads} threads, medians of ${rounds} interleaved rounds`,
      'every format passed the check that its logits have the same bits in any batch',
    ],
  };
}

async function openAll(modelDir: string, options: BenchOptions): Promise<Contender[]> {
  const { cacheDir, numThreads } = options;
  const contenders: Contender[] = [];
  for (const weightFormat of WEIGHT_FORMATS) {
    const settings = { modelDir, cacheDir, numThreads, weightFormat } as const;
    const { runner } = await openModel({ ...settings, executionProvider: 'cpu' });
    await checkInvariance(runner);
    contenders.push([weightFormat, runner]);
  }
  return contenders;
}

/** @returns medians by format, [numSizes] */
async function measure(contenders: readonly Contender[], rounds: number) {
  const medians = new Map<WeightFormat, number[]>(contenders.map(([format]) => [format, []]));
  for (const size of SIZES) {
    const times = new Map<WeightFormat, number[]>(contenders.map(([format]) => [format, []]));
    const call = createSampleCall(contenders[0]![1].shape, size, {
      numFrozen: NUM_FROZEN,
      isPrompt: size.isPrompt ?? false,
    });
    for (let round = 0; round < rounds; round += 1) {
      for (const [format, runner] of contenders) {
        times.get(format)?.push(await shortestOfThree(runner, call));
      }
    }
    for (const [format, all] of times) medians.get(format)?.push(median(all));
  }
  return medians;
}

/** The first finds the caches full of another format's weights, as no worker would. */
async function shortestOfThree(runner: ModelRunner, call: ModelInput): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < 3; i += 1) {
    const startMs = performance.now();
    await runner.run(call);
    least = Math.min(least, performance.now() - startMs);
  }
  return least;
}
