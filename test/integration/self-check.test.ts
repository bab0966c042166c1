import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelInput, ModelRunner } from '../../worker/model/runner.ts';
import { checkInvariance, checkNumbers } from '../../worker/model/self-check.ts';

const cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

const modelDir = join(import.meta.dirname, '../../infra/models/stories-target');

const open = () =>
  openModel({
    modelDir,
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 2,
  });

/** The same model, but for one logit of calls that are chosen. */
function withLogit(
  runner: ModelRunner,
  isChanged: (input: ModelInput) => boolean,
  change: (logits: Float32Array) => void,
): ModelRunner {
  return {
    shape: runner.shape,
    close: () => runner.close(),
    run: async (input) => {
      const output = await runner.run(input);
      const logits = output.logits.slice();
      if (isChanged(input)) change(logits);
      return { ...output, logits };
    },
  };
}

describe('checkInvariance', () => {
  it('finds nothing in the embedded model', async () => {
    const { runner } = await open();

    await expect(checkInvariance(runner)).resolves.toBeUndefined();
    await runner.close();
  });

  it.each<[string, (input: ModelInput) => boolean]>([
    ['rows', ({ numRows }) => numRows > 1],
    ['rows, if they are many', ({ numRows }) => numRows === 16],
    ['new tokens', ({ numNewTokens }) => numNewTokens > 1],
    ['new tokens, if they are a block', ({ numNewTokens }) => numNewTokens === 64],
    ['rows behind sinks', ({ sinks, numRows }) => sinks !== null && numRows === 5],
    ['columns, with those of sinks', ({ sinks, numRows }) => sinks !== null && numRows === 2],
    ['frozen columns', ({ frozenCapacity }) => frozenCapacity === 1024],
  ])('finds one bit that depends on the number of %s', async (_, isChanged) => {
    const { runner } = await open();
    const wavering = withLogit(runner, isChanged, (logits) => {
      new Uint32Array(logits.buffer)[9]! ^= 1;
    });

    await expect(checkInvariance(wavering)).rejects.toThrow('of 18432 logits depend on the batch');
    await wavering.close();
  });
});

describe('checkNumbers', () => {
  it.each([NaN, Infinity])('finds one logit that is %d, and names the weights', async (value) => {
    const { runner } = await open();
    const broken = withLogit(
      runner,
      () => true,
      (logits) => logits.fill(value, 7, 8),
    );

    await expect(checkNumbers(runner, modelDir)).resolves.toBeUndefined();
    await expect(checkNumbers(broken, modelDir)).rejects.toThrow(
      `the model in ${modelDir} gives logits that are not finite; its safetensors weights`,
    );
    await runner.close();
  });
});
