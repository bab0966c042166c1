import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { contextTokens, renewalTokens, type SinkPolicy } from '../../shared/protocol/endless.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { WEIGHT_FORMATS, type WeightFormat } from '../../worker/model/builder.ts';
import { openCheckpoint } from '../../worker/model/checkpoint.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { toOpenedModel } from '../../worker/thread/opened-model.ts';
import prompts from '../fixtures/prompts.json' with { type: 'json' };
import { CONFIGS } from '../support/architectures.ts';
import {
  type ConfigJson,
  randomTensors,
  type StoredTensor,
  type Tensors,
  writeCheckpoint,
} from '../support/checkpoints.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { forward } from '../support/forward.ts';
import { openStoriesPair } from '../support/model-pair.ts';
import { describeSinks } from '../support/sinks-conformance.ts';
import { EndlessReader } from '../support/text-reader.ts';

const directory = temporaryDirectory();
const target = join(import.meta.dirname, '../../infra/models/stories-target');

interface Setting {
  readonly weightFormat: WeightFormat;
  readonly numThreads: number;
}

const PLAIN: Setting = { weightFormat: 'fp32', numThreads: 1 };

const open = (modelDir: string, setting: Setting = PLAIN) =>
  openModel({
    modelDir,
    cacheDir: join(directory, 'cache'),
    executionProvider: 'cpu',
    ...setting,
  });

describeSinks('the stories pair', () => openStoriesPair(directory));

/**
 * Logits after each token but the sinks, from scratch: one context after the other, each by itself.
 */
function expectedLogits(
  { config, tensors }: { readonly config: ConfigJson; readonly tensors: Tensors },
  tokenIds: readonly number[],
  policy: SinkPolicy,
): Float64Array[] {
  const { sinkTokens, windowTokens } = policy;
  const window = { numSinks: sinkTokens, windowSize: windowTokens };
  const logits: Float64Array[] = [];
  for (let start = sinkTokens; logits.length < tokenIds.length - sinkTokens; ) {
    // The token that fills a context belongs to the next one.
    const end = start + windowTokens + renewalTokens(policy) - 1;
    const context = [...tokenIds.slice(0, sinkTokens), ...tokenIds.slice(start, end)];
    const isFirst = start === sinkTokens;
    const numAgain = isFirst ? 0 : windowTokens - 1;
    logits.push(...forward(config, tensors, context, window).slice(sinkTokens + numAgain));
    start += renewalTokens(policy);
  }
  return logits;
}

async function actualLogits(
  modelDir: string,
  tokenIds: readonly number[],
  {
    policy,
    cut,
    setting,
  }: {
    readonly policy: SinkPolicy;
    readonly cut: readonly number[];
    readonly setting?: Setting;
  },
): Promise<Float32Array[]> {
  const { runner } = await open(modelDir, setting);
  const reader = new EndlessReader(runner, policy, tokenIds.slice(0, policy.sinkTokens));
  await reader.start();
  const logits: Float32Array[] = [];
  for (let start = policy.sinkTokens, i = 0; start < tokenIds.length; i += 1) {
    const end = start + cut[i % cut.length]!;
    logits.push(...(await reader.read(tokenIds.slice(start, end))).map((row) => row.slice()));
    start = end;
  }
  await runner.close();
  return logits;
}

function worstDifference(actual: readonly Float32Array[], expected: readonly Float64Array[]) {
  let worst = 0;
  for (const [i, row] of expected.entries()) {
    for (const [tokenId, logit] of row.entries()) {
      worst = Math.max(worst, Math.abs(logit - actual[i]![tokenId]!));
    }
  }
  return worst;
}

function isSame(a: readonly Float32Array[], b: readonly Float32Array[]): boolean {
  return (
    a.length === b.length && a.every((row, i) => Buffer.compare(bytes(row), bytes(b[i]!)) === 0)
  );
}

function bytes(row: Float32Array): Buffer {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength);
}

const sinks = (sinkTokens: number, windowTokens: number): SinkPolicy => ({
  type: 'sinks',
  sinkTokens,
  windowTokens,
});

/** Kinds of rotation and of heads; what slides is the same in all. */
const NAMES = [
  'llama, grouped heads',
  'llama, one key-value head',
  'llama, linear',
  'llama, llama3',
  'llama, yarn',
  'qwen3',
];

describe.each(NAMES)('%s behind sinks', (name) => {
  const config = CONFIGS[name]!;
  const modelDir = join(directory, name);
  const tensors = randomTensors(config);
  const tokenIds = Array.from({ length: 900 }, (_, i) => (i * i * 7 + 3 * i) % 101);

  it.each([sinks(4, 60), sinks(0, 33), sinks(64, 70), sinks(3, 1)])(
    'gives the logits of a plain pass in which each token counts places anew: %j',
    async (policy) => {
      writeCheckpoint(modelDir, config, tensors);
      const actual = await actualLogits(modelDir, tokenIds, { policy, cut: [1, 40, 7, 64] });

      expect(actual).toHaveLength(tokenIds.length - policy.sinkTokens);
      const expected = expectedLogits({ config, tensors }, tokenIds, policy);
      expect(worstDifference(actual, expected)).toBeLessThan(2e-4);
    },
  );
});

/**
 * Keys and values of a single layer depend on no token but their own, so there is nothing that a
 * cache could remember of what slid away, and nothing that beginning anew could forget.
 */
describe('a model of one layer behind sinks', () => {
  it('gives at each token the logits of sinks and window read from scratch, as in the paper', async () => {
    const policy = sinks(4, 28);
    const small = { vocab_size: 61, hidden_size: 24, intermediate_size: 30 };
    const heads = { num_attention_heads: 4, num_key_value_heads: 2 };
    const llama = CONFIGS['llama, grouped heads']!;
    const config = { ...llama, ...small, ...heads, num_hidden_layers: 1 };
    const tensors = randomTensors(config);
    const modelDir = join(directory, 'one layer');
    writeCheckpoint(modelDir, config, tensors);
    const tokenIds = Array.from({ length: 2004 }, (_, i) => (i * i * 7 + 3 * i) % 61);
    const actual = await actualLogits(modelDir, tokenIds, { policy, cut: [1, 40, 7, 64] });

    const { sinkTokens, windowTokens } = policy;
    const expected = actual.map((_, i) => {
      const end = sinkTokens + i + 1;
      const window = tokenIds.slice(Math.max(sinkTokens, end - windowTokens), end);
      return forward(config, tensors, [...tokenIds.slice(0, sinkTokens), ...window]).at(-1)!;
    });
    expect(expected).toHaveLength(2000);
    expect(worstDifference(actual, expected)).toBeLessThan(1e-4);
  });
});

describe('the embedded target behind sinks', () => {
  const policy = sinks(4, 124);

  it('is within a thousandth of a plain pass over 2,000 tokens of text', async () => {
    const { tokenIds, config, tensors } = await readTarget(2000);
    const actual = await actualLogits(target, tokenIds, { policy, cut: [64, 1, 5] });

    expect(tokenIds.length).toBeGreaterThan(contextTokens(policy));
    const expected = expectedLogits({ config, tensors }, tokenIds, policy);
    expect(worstDifference(actual, expected)).toBeLessThan(1e-3);
  }, 300_000);
});

describe('bits behind sinks', () => {
  const policy = sinks(4, 60); // begun anew after 544 tokens
  const grouped = join(directory, 'grouped');
  // Groups of heads are cut for so many threads.
  const inParts = { weightFormat: 'fp32', numThreads: 4 } as const;

  it.each<Setting>(WEIGHT_FORMATS.map((weightFormat) => ({ weightFormat, numThreads: 2 })))(
    'are the same however the text is cut: the embedded target, %j',
    async (setting) => {
      const { tokenIds } = await readTarget(800);
      await compare(target, tokenIds, setting);
    },
  );

  it('are the same with groups of heads in parts', async () => {
    writeCheckpoint(grouped, CONFIGS['llama, grouped heads']!);
    const tokenIds = Array.from({ length: 800 }, (_, i) => (i * i * 7 + 3 * i) % 101);
    await compare(grouped, tokenIds, inParts);
  });

  async function compare(modelDir: string, tokenIds: readonly number[], setting: Setting) {
    const single = { policy, cut: [1], setting: { ...setting, numThreads: 1 } };
    const expected = await actualLogits(modelDir, tokenIds, single);
    for (const cut of [[64], [2], [17, 1, 3]]) {
      const actual = await actualLogits(modelDir, tokenIds, { policy, cut, setting });
      expect(isSame(actual, expected)).toBe(true);
    }
  }
});

/** Tokens of stories, and the weights in the order of `config.json`. */
async function readTarget(numTokens: number) {
  const model = await open(target);
  const tokenizer = createTokenizer(toOpenedModel(model).tokenizerFiles);
  await model.runner.close();
  const tokenIds = tokenizer.encode(prompts.join('\n'), { addSpecialTokens: true });
  const config: ConfigJson = JSON.parse(readFileSync(join(target, 'config.json'), 'utf8'));
  const { weights } = openCheckpoint(target);
  const tensors = new Map<string, StoredTensor>(
    Array.from(randomTensors(config), ([name, { shape }]) => [
      name,
      { shape, data: weights.tensor(name, shape).load() },
    ]),
  );
  weights.close();
  return { tokenIds: tokenIds.slice(0, numTokens), config, tensors };
}
