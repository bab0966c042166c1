import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../../worker/model/open-model.ts';
import { continueGreedily, readReference, worstLogit } from '../support/reference.ts';

const cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

describe.each(Object.entries(readReference()))('%s on the CPU', (name, texts) => {
  const model = openModel({
    modelDir: join(import.meta.dirname, '../../infra/models', name),
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
  });
  afterAll(async () => (await model).runner.close());

  it('gives the logits of an independent implementation at every listed position', async () => {
    const { runner } = await model;
    expect(texts).toHaveLength(20);
    for (const text of texts) expect(await worstLogit(runner, text)).toBeLessThan(1e-3);
  });

  it('continues greedily with the same tokens', async () => {
    const { runner } = await model;
    for (const { ids, greedy } of texts) {
      expect(await continueGreedily(runner, ids, greedy.length)).toEqual(greedy);
    }
  });
});
