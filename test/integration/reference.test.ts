import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { openModel } from '../../worker/model/open-model.ts';
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';

const ids = z.array(z.int());
const referenceSchema = z.object({
  models: z.record(
    z.string(),
    z.array(
      z.object({
        ids,
        top10_ids: z.array(ids),
        top10_values: z.array(z.array(z.number())),
        greedy: ids,
      }),
    ),
  ),
});

const root = join(import.meta.dirname, '../..');
const reference = referenceSchema.parse(
  JSON.parse(readFileSync(join(root, 'test/fixtures/reference.json'), 'utf8')),
);
const cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

describe.each(Object.entries(reference.models))('%s on the CPU', (name, texts) => {
  const model = openModel({
    modelDir: join(root, 'infra/models', name),
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
  });
  afterAll(async () => (await model).runner.close());

  it('gives the logits of an independent implementation at every listed position', async () => {
    const { runner } = await model;
    let numCompared = 0;

    for (const text of texts) {
      const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 256 });
      let position = 0;
      for (const chunk of cutIntoChunks(text.ids, [64])) {
        const [logits = []] = await cache.read(runner, [chunk]);
        for (const row of logits) {
          const expected = text.top10_values[position]!;
          const actual = text.top10_ids[position]!.map((tokenId) => row[tokenId]!);
          for (const [i, value] of expected.entries()) {
            expect(Math.abs(actual[i]! - value)).toBeLessThan(1e-3);
            numCompared += 1;
          }
          position += 1;
        }
      }
    }
    expect(numCompared).toBe(10 * texts.reduce((sum, text) => sum + text.ids.length, 0));
  });

  it('continues greedily with the same tokens', async () => {
    const { runner } = await model;

    for (const text of texts) {
      const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 256 });
      const output: number[] = [];
      let logits: Float32Array = new Float32Array();
      for (const chunk of cutIntoChunks(text.ids, [64])) {
        logits = (await cache.read(runner, [chunk]))[0]!.at(-1)!;
      }
      while (output.length < text.greedy.length) {
        const tokenId = logits.indexOf(logits.reduce((max, logit) => Math.max(max, logit)));
        output.push(tokenId);
        logits = (await cache.read(runner, [[tokenId]]))[0]![0]!;
      }
      expect(output).toEqual(text.greedy);
    }
  });
});
