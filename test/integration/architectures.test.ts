import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../worker/model/open-model.ts';
import { CONFIGS } from '../support/architectures.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { forward } from '../support/forward.ts';
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';

const directory = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(directory, { recursive: true }));

const tokenIds = Array.from({ length: 150 }, (_, i) => (i * i * 7 + 3 * i) % 101);

describe.each(Object.entries(CONFIGS))('%s', (name, config) => {
  it('gives the logits of a plain forward pass in double precision', async () => {
    const modelDir = join(directory, name);
    const tensors = randomTensors(config);
    writeCheckpoint(modelDir, config, tensors);
    const { runner } = await openModel({
      modelDir,
      cacheDir: join(directory, 'cache'),
      executionProvider: 'cpu',
      weightFormat: 'fp32',
      numThreads: 1,
    });

    const expected = forward(config, tensors, tokenIds);
    const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 128 });
    let worst = 0;
    let position = 0;
    for (const chunk of cutIntoChunks(tokenIds, [1, 40, 7])) {
      for (const logits of (await cache.read(runner, [chunk]))[0]!) {
        for (const [tokenId, logit] of logits.entries()) {
          worst = Math.max(worst, Math.abs(logit - expected[position]![tokenId]!));
        }
        position += 1;
      }
    }

    expect(position).toBe(tokenIds.length);
    expect(worst).toBeLessThan(1e-4);
    await runner.close();
  });
});
