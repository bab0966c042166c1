import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ModelError } from '../../worker/model/model-error.ts';
import { openSession } from '../../worker/model/onnx-runner.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { temporaryDirectory } from '../support/directories.ts';

const cacheDir = temporaryDirectory();

describe('OnnxRunner', () => {
  it('reads its inputs where they lie inside bigger buffers', async () => {
    const { runner } = await openModel({
      modelDir: join(import.meta.dirname, '../../infra/models/stories-draft'),
      cacheDir,
      executionProvider: 'cpu',
      weightFormat: 'fp32',
      numThreads: 1,
    });
    const { numLayers, numKvHeads, headDim } = runner.shape;
    const past = (columns: number, inside: number) => {
      const size = numKvHeads * columns * headDim;
      const big = Float32Array.from({ length: size + inside + 5 }, (_, i) => Math.sin(i - inside));
      return inside === 0 ? big.slice(0, size) : big.subarray(inside, inside + size);
    };
    const logitsWith = async (inside: number) => {
      const layer = {
        frozenKeys: past(64, inside),
        frozenValues: past(64, inside),
        tailKeys: past(66, inside),
        tailValues: past(66, inside),
      };
      const output = await runner.run({
        numRows: 1,
        numNewTokens: 2,
        frozenCapacity: 64,
        tailCapacity: 66,
        tokenIds: Int32Array.of(9, 3, 4).subarray(1),
        positions: Int32Array.of(9, 64, 65).subarray(1),
        writeIndices: Int32Array.of(0),
        mask: new Float32Array(2 * 130),
        sinks: null,
        layers: Array.from({ length: numLayers }, () => layer),
        logitIndices: Int32Array.of(9, 1).subarray(1),
      });
      return output.logits;
    };

    expect(await logitsWith(7)).toEqual(await logitsWith(0));
    await runner.close();
  });
});

describe('openSession', () => {
  it('says of a graph that does not load which it is, and why', async () => {
    const path = join(cacheDir, 'broken.onnx');
    writeFileSync(path, 'not a graph');
    const settings = { numThreads: 1, hasSpinningThreads: false };
    const error = await openSession(path, { executionProvider: 'cpu', ...settings }).catch(
      (thrown: unknown) => thrown,
    );

    expect(error).toBeInstanceOf(ModelError);
    expect(String(error)).toMatch(/broken\.onnx cannot be loaded on cpu: .*[Pp]rotobuf.*; delete/);
    expect(String(error)).not.toContain('\n');
  });
});
