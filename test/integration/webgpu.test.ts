import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WeightFormat } from '../../worker/model/builder.ts';
import { type OpenModel, openModel } from '../../worker/model/open-model.ts';
import { CONFIGS } from '../support/architectures.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { forward } from '../support/forward.ts';
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';
import { continueGreedily, readReference, worstLogit } from '../support/reference.ts';

// Where there is no GPU, the software Vulkan of Debian's chromium package will do.
const softwareVulkan = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (existsSync(softwareVulkan)) {
  process.env.VK_ICD_FILENAMES ??= softwareVulkan;
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
}

const directory = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(directory, { recursive: true }));

function openOnGpu(modelDir: string, weightFormat: WeightFormat = 'fp32'): Promise<OpenModel> {
  return openModel({
    modelDir,
    cacheDir: join(directory, 'cache'),
    executionProvider: 'webgpu',
    weightFormat,
    numThreads: 1,
  });
}

const modelDirOf = (name: string) => join(import.meta.dirname, '../../infra/models', name);
/** @returns why nothing can run here, `null` where a graph that does not load is broken */
async function lackOfGpu(): Promise<string | null> {
  try {
    const { runner } = await openOnGpu(modelDirOf('stories-draft'));
    await runner.close();
    return null;
  } catch (error) {
    const message = error instanceof Error ? error.message : `${error}`;
    return message.includes('needs a GPU with a Vulkan driver') ? message : null;
  }
}

const lack = await lackOfGpu();
if (lack !== null) console.log(`skipped: ${lack}`);

describe.skipIf(lack !== null)('the execution provider webgpu', () => {
  describe.each(Object.entries(readReference()))('with %s', (name, texts) => {
    let model: OpenModel;
    beforeAll(async () => {
      model = await openOnGpu(modelDirOf(name));
    });
    afterAll(() => model.runner.close());

    it('gives the logits of an independent implementation', async () => {
      for (const text of texts) expect(await worstLogit(model.runner, text)).toBeLessThan(1e-3);
    }, 300_000);

    it('continues greedily with the same tokens, across the end of a block', async () => {
      const { ids, greedy } = texts.find((text) => text.ids.length === 49)!;
      expect(await continueGreedily(model.runner, ids, 20)).toEqual(greedy.slice(0, 20));
    });
  });

  it.each([
    ['q8', 0.06],
    ['q4', 0.45],
  ] as const)('runs blocks of %s nearly like fp32', async (weightFormat, tolerance) => {
    for (const name of ['llama, grouped heads', 'gpt2']) {
      const config = CONFIGS[name]!;
      const tensors = randomTensors(config);
      writeCheckpoint(join(directory, name), config, tensors);
      const { runner } = await openOnGpu(join(directory, name), weightFormat);
      const tokenIds = Array.from({ length: 40 }, (_, i) => (i * i * 7 + 3 * i) % 101);

      const expected = forward(config, tensors, tokenIds).flatMap((logits) => [...logits]);
      const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 64 });
      const [rows] = await cache.read(runner, [tokenIds]);
      const actual = rows!.flatMap((logits) => [...logits]);

      const spread = Math.hypot(...expected); // their mean is near 0
      expect(Math.hypot(...expected.map((logit, i) => logit - actual[i]!)) / spread).toBeLessThan(
        tolerance,
      );
      await runner.close();
    }
  });

  it.each(['qwen3', 'gpt2'])('runs %s like a plain forward pass', async (name) => {
    const config = CONFIGS[name]!;
    const tensors = randomTensors(config);
    writeCheckpoint(join(directory, name), config, tensors);
    const { runner } = await openOnGpu(join(directory, name));
    const tokenIds = Array.from({ length: 70 }, (_, i) => (i * i * 7 + 3 * i) % 101);

    const expected = forward(config, tensors, tokenIds).flatMap((logits) => [...logits]);
    const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 128 });
    const actual: number[] = [];
    for (const chunk of cutIntoChunks(tokenIds, [40])) {
      for (const logits of (await cache.read(runner, [chunk]))[0]!) actual.push(...logits);
    }

    const worst = expected.reduce(
      (max, logit, i) => Math.max(max, Math.abs(logit - actual[i]!)),
      0,
    );
    expect(actual).toHaveLength(expected.length);
    expect(worst).toBeLessThan(1e-4);
    await runner.close();
  });
});
