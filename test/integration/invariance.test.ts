import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WEIGHT_FORMATS, type WeightFormat } from '../../worker/model/builder.ts';
import { type OpenModel, openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { CONFIGS } from '../support/architectures.ts';
import { writeCheckpoint } from '../support/checkpoints.ts';
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';

const directory = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(directory, { recursive: true }));

const target = join(import.meta.dirname, '../../infra/models/stories-target');

function checkpointOf(name: string): string {
  const modelDir = join(directory, name);
  writeCheckpoint(modelDir, CONFIGS[name]!);
  return modelDir;
}

/** Checkpoints of each kind of attention, and in which formats beside fp32 they are read. */
const FORMATS_BY_NAME: Readonly<Record<string, readonly WeightFormat[]>> = {
  'llama, grouped heads': ['int8', 'q8', 'q4'],
  'llama, every head its own': [],
  'llama, one key-value head': ['int8'],
  'llama, wide heads': [],
  'llama, broad heads': ['q8', 'q4'],
  'llama, dynamic': [],
  'mistral, sliding window': ['int8'],
  qwen2: ['q8'],
  qwen3: ['int8', 'q4'],
  gpt2: ['int8', 'q8', 'q4'],
};

const MODELS = [
  ...WEIGHT_FORMATS.map((weightFormat) => ({ modelDir: target, weightFormat })),
  ...Object.entries(FORMATS_BY_NAME).flatMap(([name, formats]) => {
    const modelDir = checkpointOf(name);
    return (['fp32', ...formats] as const).map((weightFormat) => ({ modelDir, weightFormat }));
  }),
];

interface Reading {
  readonly numRows: number;
  /** The row of the text that is compared; all others read texts of their own. */
  readonly row: number;
  readonly frozenCapacity: number | 'growing';
  /** Lengths of chunks, repeated; a chunk also ends where a block does. */
  readonly cut: readonly number[];
}

const READINGS: readonly Reading[] = [
  { numRows: 1, row: 0, frozenCapacity: 256, cut: [2] },
  { numRows: 1, row: 0, frozenCapacity: 256, cut: [4] },
  { numRows: 1, row: 0, frozenCapacity: 512, cut: [8] },
  { numRows: 1, row: 0, frozenCapacity: 256, cut: [17] },
  { numRows: 1, row: 0, frozenCapacity: 'growing', cut: [1, 3] },
  { numRows: 1, row: 0, frozenCapacity: 512, cut: [64] },
  { numRows: 4, row: 2, frozenCapacity: 256, cut: [1] },
  { numRows: 4, row: 0, frozenCapacity: 'growing', cut: [64] },
  { numRows: 8, row: 7, frozenCapacity: 256, cut: [3, 1, 17, 1, 40] },
  { numRows: 16, row: 3, frozenCapacity: 512, cut: [64, 5, 1] },
  { numRows: 16, row: 15, frozenCapacity: 256, cut: [1, 9] },
];

const text = Array.from({ length: 200 }, (_, i) => (i * i * 7 + 3 * i) % 101);

/** @returns logits of every position of the text, [200] of [vocabSize] */
async function read(runner: ModelRunner, reading: Reading): Promise<Float32Array[]> {
  const { numRows, row, frozenCapacity, cut } = reading;
  const isGrowing = frozenCapacity === 'growing';
  const cache = new HostCache(runner.shape, {
    numRows,
    frozenCapacity: isGrowing ? 64 : frozenCapacity,
  });
  const logits: Float32Array[] = [];
  for (const chunk of cutIntoChunks(text, cut)) {
    const chunks = Array.from({ length: numRows }, (_, neighbor) =>
      neighbor === row ? chunk : neighborChunk(cache, neighbor, logits.length),
    );
    logits.push(...(await cache.read(runner, chunks))[row]!);
    if (isGrowing && cache.lengths[row]! >= cache.frozenCapacity) {
      cache.grow(2 * cache.frozenCapacity);
    }
  }
  return logits;
}

/** One to seven tokens of another text, which begins anew before its row is full. */
function neighborChunk(cache: HostCache, row: number, time: number): number[] {
  if (cache.lengths[row]! >= cache.frozenCapacity - 64) cache.clear(row);
  const roomInBlock = 64 - (cache.lengths[row]! % 64);
  const length = Math.min(roomInBlock, 1 + ((row * 5 + time) % 7));
  return Array.from({ length }, (_, i) => (row * 31 + i * 7 + time) % 101);
}

interface TestedModel {
  readonly modelDir: string;
  readonly weightFormat: WeightFormat;
}

function open({ modelDir, weightFormat }: TestedModel, numThreads: number): Promise<OpenModel> {
  return openModel({
    modelDir,
    weightFormat,
    numThreads,
    cacheDir: join(directory, 'cache'),
    executionProvider: 'cpu',
  });
}

/** Reads the text one token at a time, with one thread. */
const plain: Reading = { numRows: 1, row: 0, frozenCapacity: 256, cut: [1] };

/** @returns positions at which the logits differ in any bit */
function differingPositions(expected: Float32Array[], actual: Float32Array[]): number[] {
  expect(actual).toHaveLength(text.length);
  return expected.flatMap((logits, position) =>
    Buffer.from(logits.slice().buffer).equals(Buffer.from(actual[position]!.slice().buffer))
      ? []
      : [position],
  );
}

describe.each(MODELS)('logits of $modelDir in $weightFormat', (model) => {
  const models: OpenModel[] = [];
  let expected: Float32Array[] = [];

  beforeAll(async () => {
    models.push(await open(model, 1), await open(model, 2));
    expected = await read(models[0]!.runner, plain);
  });
  afterAll(() => Promise.all(models.map(({ runner }) => runner.close())));

  it.each(READINGS)(
    'are the same bits in row $row of $numRows, capacity $frozenCapacity, cut $cut',
    async (reading) => {
      const actual = await read(models[1]!.runner, reading);

      expect(differingPositions(expected, actual)).toEqual([]);
    },
  );
});

/** As wide as a model of 110 M parameters, whose products are summed in more parts. */
const WIDE = {
  ...CONFIGS['llama, grouped heads'],
  hidden_size: 768,
  intermediate_size: 2304,
  num_attention_heads: 24,
  num_key_value_heads: 8,
  num_hidden_layers: 1,
};

/** Groups of heads are cut into other parts for each number of threads. */
const THREADED: readonly TestedModel[] = [
  'llama, grouped heads',
  'llama, every head its own',
  'llama, broad heads',
  'gpt2',
].flatMap((name) => {
  const modelDir = join(directory, name);
  return (['fp32', 'int8', 'q8'] as const).map((weightFormat) => ({ modelDir, weightFormat }));
});

describe.each(THREADED)('logits of $modelDir in $weightFormat', (model) => {
  it('are the same bits with any number of threads', async () => {
    const single = await open(model, 1);
    const expected = await read(single.runner, plain);
    await single.runner.close();
    for (const numThreads of [3, 4, 6, 8]) {
      const { runner } = await open(model, numThreads);
      for (const i of [0, 4, 7]) {
        const actual = await read(runner, READINGS[i]!); // a row alone, and among four
        expect(differingPositions(expected, actual), `${numThreads} threads, ${i}`).toEqual([]);
      }
      await runner.close();
    }
  });
});

describe.each(WEIGHT_FORMATS)('logits of a wide model in %s', (weightFormat) => {
  const model = { modelDir: join(directory, 'wide'), weightFormat };
  beforeAll(() => writeCheckpoint(model.modelDir, WIDE));

  it('are the same bits in any batch', async () => {
    const single = await open(model, 1);
    const expected = await read(single.runner, plain);
    await single.runner.close();
    const { runner } = await open(model, 2);
    for (const i of [2, 5, 6, 10]) {
      const actual = await read(runner, READINGS[i]!);
      expect(differingPositions(expected, actual), JSON.stringify(READINGS[i])).toEqual([]);
    }
    await runner.close();
  });
});
