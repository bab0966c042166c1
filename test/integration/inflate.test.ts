import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import prompts from '../fixtures/prompts.json' with { type: 'json' };
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';
import { INFLATED_DRAFT, INFLATED_TARGET, inflate } from '../support/inflate.ts';
import { storiesFiles } from '../support/stories.ts';

const cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

const tokenizer = createTokenizer(storiesFiles);
const texts = prompts
  .slice(0, 6)
  .map((prompt) => tokenizer.encode(prompt, { addSpecialTokens: true }));

function open(modelDir: string) {
  const options = { executionProvider: 'cpu', weightFormat: 'fp32', numThreads: 2 } as const;
  return openModel({ modelDir, cacheDir, ...options });
}

/** Logits at every position of a text and of what greedily follows. */
async function read(runner: ModelRunner, tokenIds: readonly number[], numOutput: number) {
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 192 });
  const rows: Float32Array[] = [];
  const output: number[] = [];
  for (const chunk of cutIntoChunks(tokenIds, [64])) {
    rows.push(...(await cache.read(runner, [chunk]))[0]!);
  }
  while (output.length < numOutput) {
    const last = rows.at(-1)!;
    const tokenId = last.indexOf(last.reduce((max, logit) => Math.max(max, logit)));
    output.push(tokenId);
    rows.push(...(await cache.read(runner, [[tokenId]]))[0]!);
  }
  return { rows, output };
}

describe.each([
  ['stories-target', INFLATED_TARGET],
  ['stories-draft', INFLATED_DRAFT],
])('inflate(%s)', (name, shape) => {
  const modelDir = join(import.meta.dirname, '../../infra/models', name);
  const inflatedDir = inflate(modelDir, shape, cacheDir);
  const models = Promise.all([open(modelDir), open(inflatedDir)]);
  afterAll(async () => {
    for (const { runner } of await models) await runner.close();
  });

  it('gives the logits of the original but for rounding, and the same greedy tokens', async () => {
    const [original, inflated] = await models;
    let worst = 0;

    for (const text of texts) {
      const expected = await read(original.runner, text, 40);
      const actual = await read(inflated.runner, text, 40);
      expect(actual.output).toEqual(expected.output);
      for (const [position, row] of expected.rows.entries()) {
        for (const [tokenId, logit] of row.entries()) {
          worst = Math.max(worst, Math.abs(logit - actual.rows[position]![tokenId]!));
        }
      }
    }

    expect(worst).toBeLessThan(1e-4); // sums of a thousand products in float32, logits near 20
  });

  it('puts each padding token far below the token it copies', async () => {
    const [original, inflated] = await models;
    const { vocabSize } = original.runner.shape;

    const { rows } = await read(inflated.runner, texts[0]!, 20);

    let narrowest = Infinity;
    for (const row of rows) {
      for (let tokenId = vocabSize; tokenId < row.length; tokenId += 1) {
        narrowest = Math.min(narrowest, row[tokenId % vocabSize]! - row[tokenId]!);
      }
    }
    expect(rows[0]).toHaveLength(shape.vocabSize);
    expect(narrowest).toBeGreaterThan(20); // exp(-20) of the original's probability, or less
  });

  it('is as large as it says, and written once', () => {
    const path = join(inflatedDir, 'model.safetensors');
    const { mtimeMs, size } = statSync(path);

    expect(inflate(modelDir, shape, cacheDir)).toBe(inflatedDir);
    expect(statSync(path).mtimeMs).toBe(mtimeMs);
    const millions = { 'stories-target': 109, 'stories-draft': 15.4 }[name]!;
    expect(size / 2e6).toBeGreaterThan(millions); // two bytes a parameter
    expect(size / 2e6).toBeLessThan(millions * 1.05);
  });
});
