import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { WeightFormat } from '../../worker/model/builder.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { CONFIGS } from '../support/architectures.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { forward } from '../support/forward.ts';
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';

const directory = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(directory, { recursive: true }));

const models = join(import.meta.dirname, '../../infra/models');

function open(modelDir: string, weightFormat: WeightFormat) {
  const cacheDir = join(directory, 'cache');
  return openModel({
    modelDir,
    cacheDir,
    weightFormat,
    executionProvider: 'cpu',
    numThreads: 1,
  });
}

async function read(modelDir: string, weightFormat: WeightFormat, tokenIds: readonly number[]) {
  const { runner } = await open(modelDir, weightFormat);
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 128 });
  const logits: number[] = [];
  for (const chunk of cutIntoChunks(tokenIds, [1, 40, 7])) {
    for (const row of (await cache.read(runner, [chunk]))[0]!) logits.push(...row);
  }
  await runner.close();
  return logits;
}

/** Root of the mean squared difference, as a part of the spread of the expected logits. */
function relativeError(actual: readonly number[], expected: readonly number[]): number {
  const mean = expected.reduce((sum, value) => sum + value, 0) / expected.length;
  let difference = 0;
  let spread = 0;
  for (const [i, value] of expected.entries()) {
    difference += (actual[i]! - value) ** 2;
    spread += (value - mean) ** 2;
  }
  return Math.sqrt(difference / spread);
}

/**
 * Half again what is measured, alike for all architectures: rounding to 127 steps of a row's or
 * block's greatest magnitude, four times or so the usual, is off by 0.7 percent of the usual
 * number, and by 16 times that with 8 steps; random models of this width carry it on fivefold. A
 * scale, block or order gone wrong gives 1.
 */
const RANDOM_TOLERANCES = { int8: 0.06, q8: 0.06, q4: 0.45 } as const;
const TRAINED_TOLERANCES = { int8: 0.035, q8: 0.03, q4: 0.25 } as const;
const FORMATS = ['int8', 'q8', 'q4'] as const;

describe.each(Object.entries(CONFIGS))('%s', (name, config) => {
  const modelDir = join(directory, name);
  const tensors = randomTensors(config);
  writeCheckpoint(modelDir, config, tensors);
  const tokenIds = Array.from({ length: 100 }, (_, i) => (i * i * 7 + 3 * i) % 101);
  const expected = forward(config, tensors, tokenIds).flatMap((logits) => [...logits]);

  it.each(FORMATS)('in %s is close to a forward pass in double precision', async (format) => {
    const error = relativeError(await read(modelDir, format, tokenIds), expected);

    expect(error).toBeLessThan(RANDOM_TOLERANCES[format]);
    expect(error).toBeGreaterThan(1e-4); // nothing was quantized otherwise
  });
});

describe.each(['stories-target', 'stories-draft'])('%s', (name) => {
  const tokenIds = Array.from({ length: 100 }, (_, i) => (i * i * 7 + 3 * i) % 2048);
  const expected = read(join(models, name), 'fp32', tokenIds);

  it.each(FORMATS)('in %s is close to what it is in fp32', async (format) => {
    const actual = await read(join(models, name), format, tokenIds);

    expect(relativeError(actual, await expected)).toBeLessThan(TRAINED_TOLERANCES[format]);
  });
});

it('computes a row of zeros without a number that is none', async () => {
  const config = CONFIGS['llama, grouped heads']!;
  const tensors = randomTensors(config);
  for (const name of ['model.layers.0.mlp.up_proj.weight', 'model.norm.weight']) {
    tensors.get(name)!.data.fill(0);
  }
  writeCheckpoint(join(directory, 'zeros'), config, tensors);

  for (const format of FORMATS) {
    const logits = await read(join(directory, 'zeros'), format, [1, 2, 3]);
    expect(logits.every((logit) => logit === 0)).toBe(true);
  }
});

it('refuses int8 on webgpu, which has no such product', async () => {
  const opened = openModel({
    modelDir: join(models, 'stories-target'),
    cacheDir: join(directory, 'cache'),
    executionProvider: 'webgpu',
    weightFormat: 'int8',
    numThreads: 1,
  });

  await expect(opened).rejects.toThrow('choose fp32, q8 or q4');
});

it('lets a number that is none reach the logits', async () => {
  const config = { ...CONFIGS['llama, grouped heads']!, attention_bias: true };
  const tensors = randomTensors(config);
  // Finite both, but not their sum.
  tensors.get('model.layers.0.self_attn.o_proj.bias')!.data.fill(2e38);
  tensors.get('model.embed_tokens.weight')!.data.fill(2e38, 5 * 48, 6 * 48);
  writeCheckpoint(join(directory, 'broken'), config, tensors);

  for (const format of FORMATS) {
    const logits = await read(join(directory, 'broken'), format, [1, 5]);
    expect(logits.slice(0, 101).some(Number.isNaN)).toBe(false);
    expect(logits.slice(101).every(Number.isNaN)).toBe(true);
  }
});
