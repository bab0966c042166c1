import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { WEIGHT_FORMATS, type WeightFormat } from './builder.ts';
import { openCheckpoint } from './checkpoint.ts';
import { digestFiles } from './digest.ts';
import { type ModelOptions, openModel } from './open-model.ts';
import { processorClass } from './processor.ts';
import type { ModelRunner } from './runner.ts';
import { createSampleCall } from './sample-call.ts';

/** Raised with every change that could change a choice. */
const CHOICE_VERSION = 1;

/**
 * Formats that say nearly what fp32 says. Four bits lose more, so only the operator may choose
 * them.
 */
const CANDIDATES = { cpu: ['fp32', 'int8', 'q8'], webgpu: ['fp32', 'q8'] } as const;

/** Decoding one sequence, decoding many, verifying a draft of four. */
const CALLS = [
  { numRows: 1, numNewTokens: 1 },
  { numRows: 16, numNewTokens: 1 },
  { numRows: 1, numNewTokens: 5 },
] as const;

const NUM_FROZEN = 256;
const NUM_ROUNDS = 7;

/** What a format must save to be worth its rounding. */
const MAX_RELATIVE_TIME = 0.9;

const choiceSchema = z.object({ weightFormat: z.enum(WEIGHT_FORMATS) });

export type ChoiceOptions = Omit<ModelOptions, 'weightFormat' | 'hasSpinningThreads'>;

/**
 * The format that runs a model fastest on this machine: measured once for each model, kind of
 * processor and number of threads, then remembered in the cache directory.
 *
 * @throws {ModelError} when the model cannot be served
 */
export async function chooseFormat(options: ChoiceOptions): Promise<WeightFormat> {
  const directory = join(options.cacheDir, 'formats');
  const path = join(directory, `${await keyOf(options)}.json`);
  const known = readChoice(path);
  if (known !== null) return known;

  const runnerByFormat = new Map<WeightFormat, ModelRunner>();
  for (const weightFormat of CANDIDATES[options.executionProvider]) {
    const { runner } = await openModel({ ...options, weightFormat });
    runnerByFormat.set(weightFormat, runner);
  }
  const timesByFormat = await measureCalls(runnerByFormat);
  for (const runner of runnerByFormat.values()) await runner.close();
  const weightFormat = fastest(timesByFormat);
  mkdirSync(directory, { recursive: true });
  const partial = `${path}.${randomUUID()}`; // threads, and containers, share process ids
  const milliseconds = Object.fromEntries(timesByFormat);
  writeFileSync(partial, JSON.stringify({ weightFormat, calls: CALLS, milliseconds }, null, 2));
  renameSync(partial, path);
  return weightFormat;
}

/** @param timesByFormat milliseconds of the same calls in each format, fp32 among them */
export function fastest(timesByFormat: ReadonlyMap<WeightFormat, readonly number[]>): WeightFormat {
  const plain = timesByFormat.get('fp32') ?? [];
  let best: WeightFormat = 'fp32';
  let bestTime = MAX_RELATIVE_TIME;
  for (const [weightFormat, times] of timesByFormat) {
    const logs = times.map((time, i) => Math.log(time / plain[i]!));
    const relativeTime = Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
    if (relativeTime >= bestTime) continue;
    best = weightFormat;
    bestTime = relativeTime;
  }
  return best;
}

/**
 * Formats take turns, and the least time counts: what others do on the machine only ever adds to
 * it.
 *
 * @returns milliseconds by format, [numCalls]
 */
async function measureCalls(runnerByFormat: ReadonlyMap<WeightFormat, ModelRunner>) {
  const timesByFormat = new Map<WeightFormat, number[]>();
  for (const weightFormat of runnerByFormat.keys()) {
    timesByFormat.set(weightFormat, Array<number>(CALLS.length).fill(Infinity));
  }
  const shape = runnerByFormat.get('fp32')!.shape;
  for (const [i, size] of CALLS.entries()) {
    const call = createSampleCall(shape, size, { numFrozen: NUM_FROZEN });
    for (let round = 0; round < NUM_ROUNDS; round += 1) {
      for (const [weightFormat, runner] of runnerByFormat) {
        await runner.run(call); // finds another format's weights in the processor's cache
        const startMs = performance.now();
        await runner.run(call);
        const times = timesByFormat.get(weightFormat)!;
        times[i] = Math.min(times[i]!, performance.now() - startMs);
      }
    }
  }
  return timesByFormat;
}

async function keyOf({ modelDir, executionProvider, numThreads }: ChoiceOptions): Promise<string> {
  const { weights, paths } = openCheckpoint(modelDir);
  weights.close();
  const parts = [
    CHOICE_VERSION,
    await digestFiles(paths),
    executionProvider,
    processorClass(),
    numThreads,
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

/** `null` also where the file is damaged: then it is measured again. */
function readChoice(path: string): WeightFormat | null {
  if (!existsSync(path)) return null;
  try {
    return choiceSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).weightFormat;
  } catch {
    return null;
  }
}
