import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { WEIGHT_FORMATS, type WeightFormat } from '../../worker/model/builder.ts';
import { type OpenModel, openModel } from '../../worker/model/open-model.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { toOpenedModel } from '../../worker/thread/opened-model.ts';
import prompts from '../fixtures/prompts.json' with { type: 'json' };
import { cutIntoChunks, HostCache } from '../support/host-cache.ts';
import { type BenchOptions, type BenchResult, targetOf } from './benchmark.ts';

const NUM_ROWS = 4;
const CHUNK = 32;
const MAX_WINDOW = 512;
const MAX_CHARACTERS = 60_000;

const embedded = ['stories-target', 'stories-draft'].map((name) =>
  join(import.meta.dirname, '../../infra/models', name),
);

interface Text {
  readonly name: string;
  readonly text: string;
}

/**
 * How much worse the formats predict text than fp32 does. `--option` names a text file, `model=DIR`
 * another model than the embedded pair; without a text, the story openings that ship with the
 * tests.
 */
export async function run({
  rest,
  isQuick,
  cacheDir,
  numThreads,
}: BenchOptions): Promise<BenchResult> {
  const chosen = rest.flatMap((option) => (option.startsWith('model=') ? [option.slice(6)] : []));
  const files = rest.filter((option) => !option.startsWith('model='));
  const limit = isQuick ? 6000 : MAX_CHARACTERS;
  const texts = files.map((path) => ({
    name: basename(path),
    text: readFileSync(path, 'utf8').slice(0, limit),
  }));
  if (texts.length === 0) {
    texts.push({ name: 'story openings', text: prompts.join('\n').slice(0, limit) });
  }
  const rows: (string | number)[][] = [];
  const targets = [];
  for (const modelDir of chosen.length > 0 ? chosen : embedded) {
    const losses = new Map<string, number>();
    for (const weightFormat of WEIGHT_FORMATS) {
      const options = { modelDir, cacheDir, numThreads, weightFormat } as const;
      const model = await openModel({ ...options, executionProvider: 'cpu' });
      for (const text of texts) {
        const { loss, numTokens } = await measure(model, text);
        losses.set(`${weightFormat} ${text.name}`, loss);
        const increase = Math.expm1(loss - (losses.get(`fp32 ${text.name}`) ?? loss));
        const percent = `${(100 * increase).toFixed(2)} %`;
        rows.push([
          basename(modelDir),
          text.name,
          weightFormat,
          numTokens,
          Math.exp(loss),
          percent,
        ]);
        const bound = BOUNDS[weightFormat];
        if (bound === null) continue;
        const name = `${basename(modelDir)} ${weightFormat} on ${text.name}, relative increase`;
        targets.push(targetOf(name, increase, '<=', bound));
      }
      await model.runner.close();
    }
  }
  return {
    models: chosen.length > 0 ? chosen : ['the embedded pair, 3.5 and 0.45 M parameters'],
    tables: [
      {
        title: 'Perplexity',
        columns: ['model', 'text', 'format', 'tokens', 'perplexity', 'against fp32'],
        rows,
      },
    ],
    targets,
    notes: [
      `the first ${limit} characters of a text, in windows of the model's context or ${MAX_WINDOW} tokens`,
      'the aims are meant for models of usual size; small ones lose more',
    ],
  };
}

/** What a format may add to the perplexity, as a part of it. */
const BOUNDS: Readonly<Record<WeightFormat, number | null>> = {
  fp32: null,
  int8: 0.005,
  q8: 0.005,
  q4: 0.03,
};

async function measure(model: OpenModel, { text }: Text) {
  const { runner, checkpoint } = model;
  const tokenizer = createTokenizer(toOpenedModel(model).tokenizerFiles);
  const tokenIds = tokenizer.encode(text, { addSpecialTokens: false });
  const start = checkpoint.bosTokenId === null ? [] : [checkpoint.bosTokenId];
  const length = Math.min(runner.shape.maxSequenceTokens, MAX_WINDOW) - start.length;
  const windows: number[][] = [];
  for (let at = 0; at < tokenIds.length; at += length) {
    windows.push([...start, ...tokenIds.slice(at, at + length)]);
  }
  let loss = 0;
  let numTokens = 0;
  for (let i = 0; i < windows.length; i += NUM_ROWS) {
    const batch = windows.slice(i, i + NUM_ROWS);
    loss += await sumLosses(runner, batch);
    numTokens += batch.reduce((sum, window) => sum + window.length - 1, 0);
  }
  return { loss: loss / numTokens, numTokens };
}

/** Sum of the negative log-probabilities of all tokens but the first of each window. */
async function sumLosses(
  runner: ModelRunner,
  windows: readonly (readonly number[])[],
): Promise<number> {
  const longest = Math.max(...windows.map((window) => window.length));
  const cache = new HostCache(runner.shape, {
    numRows: windows.length,
    frozenCapacity: Math.ceil(longest / 64) * 64,
  });
  // A shorter window is read on with its last token, and those logits are not looked at.
  const padded = windows.map((window) =>
    Array.from({ length: longest }, (_, i) => window[Math.min(i, window.length - 1)]!),
  );
  const cuts = padded.map((window) => cutIntoChunks(window, [CHUNK]));
  let sum = 0;
  let position = 0;
  for (const [step, { length }] of cuts[0]!.entries()) {
    const logits = await cache.read(
      runner,
      cuts.map((chunks) => chunks[step]!),
    );
    for (const [row, window] of windows.entries()) {
      for (const [i, scores] of logits[row]!.entries()) {
        const next = window[position + i + 1];
        if (next !== undefined) sum += negativeLogProbability(scores, next);
      }
    }
    position += length;
  }
  return sum;
}

function negativeLogProbability(logits: Float32Array, tokenId: number): number {
  let greatest = -Infinity;
  for (const logit of logits) greatest = Math.max(greatest, logit);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - greatest);
  return Math.log(total) + greatest - logits[tokenId]!;
}
