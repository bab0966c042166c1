import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { checkInvariance } from '../../worker/model/self-check.ts';

const cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

const open = () =>
  openModel({
    modelDir: join(import.meta.dirname, '../../infra/models/stories-target'),
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 2,
  });

describe('checkInvariance', () => {
  it('finds nothing in the embedded model', async () => {
    const { runner } = await open();

    await expect(checkInvariance(runner)).resolves.toBeUndefined();
    await runner.close();
  });

  it.each([
    ['rows', (numRows: number, _: number) => numRows > 1],
    ['new tokens', (_: number, numNewTokens: number) => numNewTokens > 1],
  ])('finds one bit that depends on the number of %s', async (_, isChanged) => {
    const { runner } = await open();
    const wavering: ModelRunner = {
      shape: runner.shape,
      close: () => runner.close(),
      run: async (input) => {
        const output = await runner.run(input);
        const logits = output.logits.slice();
        const bits = new Uint32Array(logits.buffer);
        if (isChanged(input.numRows, input.numNewTokens)) bits[9]! ^= 1;
        return { ...output, logits };
      },
    };

    await expect(checkInvariance(wavering)).rejects.toThrow('of 12288 logits depend on the batch');
    await wavering.close();
  });
});
