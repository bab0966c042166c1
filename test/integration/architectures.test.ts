import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONFIGS } from '../support/architectures.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { forward } from '../support/forward.ts';
import { worstOfModel } from '../support/plain-logits.ts';

const directory = temporaryDirectory();
const cacheDir = join(directory, 'cache');
const tokenIds = Array.from({ length: 150 }, (_, i) => (i * i * 7 + 3 * i) % 101);

describe.each(Object.entries(CONFIGS))('%s', (name, config) => {
  it('gives the logits of a plain forward pass in double precision', async () => {
    const modelDir = join(directory, name);
    const tensors = randomTensors(config);
    writeCheckpoint(modelDir, config, tensors);

    const expected = forward(config, tensors, tokenIds);
    expect(await worstOfModel({ modelDir, cacheDir }, tokenIds, expected)).toBeLessThan(1e-4);
  });
});
