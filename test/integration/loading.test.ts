import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openModel } from '../../worker/model/open-model.ts';
import { CONFIGS } from '../support/architectures.ts';
import {
  type ConfigJson,
  encodeSafetensors,
  randomTensors,
  type StoredType,
  type Tensors,
  writeCheckpoint,
} from '../support/checkpoints.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { forward } from '../support/forward.ts';
import { worstOfModel } from '../support/plain-logits.ts';

const directory = temporaryDirectory();
const modelDir = join(directory, 'model');
const cacheDir = join(directory, 'cache');
const at = (name: string) => join(modelDir, name);
const tokenIds = Array.from({ length: 150 }, (_, i) => (i * i * 7 + 3 * i) % 101);

const llama = CONFIGS['llama, grouped heads']!;
const qwen2 = CONFIGS.qwen2!;
const gpt2 = CONFIGS.gpt2!;

beforeEach(() => rmSync(modelDir, { recursive: true, force: true }));

/** By how much the model directory is off, of which this is what it should say. */
function worst(config: ConfigJson, tensors: Tensors): Promise<number> {
  return worstOfModel({ modelDir, cacheDir }, tokenIds, forward(config, tensors, tokenIds));
}

/** The same weights in as many files, each of its type, and the index that names them. */
function writeShards(config: ConfigJson, tensors: Tensors, types: readonly StoredType[]): void {
  writeCheckpoint(modelDir, config, tensors);
  rmSync(at('model.safetensors'));
  const map: Record<string, string> = {};
  for (const [i, type] of types.entries()) {
    const file = `model-0000${i + 1}-of-0000${types.length}.safetensors`;
    const part = [...tensors].filter((_, place) => place % types.length === i);
    for (const [name] of part) map[name] = file;
    writeFileSync(at(file), encodeSafetensors(new Map(part), type));
  }
  const index = { metadata: { total_size: 0 }, weight_map: map };
  writeFileSync(at('model.safetensors.index.json'), JSON.stringify(index));
}

/** Numbers with eight significant bits, none of them tiny: exact as halves of either kind. */
function roundedTensors(config: ConfigJson): Tensors {
  const rounded = [...randomTensors(config)].map(([name, { shape, data }]) => {
    const bits = new Uint32Array(data.slice().buffer).map((value) => (value & 0xffff_0000) >>> 0);
    const coarse = new Float32Array(bits.buffer);
    const exact = coarse.map((value) => (Math.abs(value) < 2 ** -14 ? 0 : value));
    return [name, { shape, data: exact }] as const;
  });
  return new Map(rounded);
}

describe('a model directory gives the logits of a plain forward pass', () => {
  it.each<{ readonly types: readonly StoredType[] }>([
    { types: ['F16'] },
    { types: ['BF16'] },
    { types: ['F32', 'F32', 'F32'] },
    { types: ['BF16', 'BF16'] },
    { types: ['F16', 'F32', 'BF16'] },
  ])('from shards in $types', async ({ types }) => {
    const tensors = roundedTensors(llama);
    writeShards(llama, tensors, types);

    expect(await worst(llama, tensors)).toBeLessThan(1e-4);
  });

  it.each<StoredType>(['F16', 'BF16'])('from one file in %s', async (type) => {
    const tensors = roundedTensors(qwen2);
    writeCheckpoint(modelDir, qwen2, tensors);
    writeFileSync(at('model.safetensors'), encodeSafetensors(tensors, type));

    expect(await worst(qwen2, tensors)).toBeLessThan(1e-4);
  });

  it.each([true, false])('of GPT-2 without prefix, as published; head tied: %s', async (isTied) => {
    const config = { ...gpt2, tie_word_embeddings: isTied };
    const tensors = randomTensors(config);
    const bare = [...tensors].map(([name, tensor]) => {
      return [name.replace('transformer.', ''), tensor] as const;
    });
    const causal = { shape: [1, 1, 4, 4], data: new Float32Array(16).fill(1) };
    writeCheckpoint(modelDir, config, new Map([...bare, ['h.0.attn.bias', causal]]));

    expect(bare.some(([name]) => name === 'lm_head.weight')).toBe(!isTied);
    expect(await worst(config, tensors)).toBeLessThan(1e-4);
  });

  it('of Qwen2 with a window on all layers, and on none', async () => {
    const windowed = { ...qwen2, use_sliding_window: true, sliding_window: 50 };
    const tensors = randomTensors(qwen2);
    writeCheckpoint(modelDir, { ...windowed, max_window_layers: 0 }, tensors);
    expect(await worst(windowed, tensors)).toBeLessThan(1e-4);
    expect(await worst(qwen2, tensors)).toBeGreaterThan(0.1);

    writeCheckpoint(modelDir, { ...windowed, max_window_layers: 2 }, tensors);
    expect(await worst(qwen2, tensors)).toBeLessThan(1e-4);
    writeCheckpoint(modelDir, { ...windowed, use_sliding_window: false }, tensors);
    expect(await worst(qwen2, tensors)).toBeLessThan(1e-4);
  });
});

it.each([
  [{ max_window_layers: 1 }, 'max_window_layers 1 of 2 layers is not supported'],
  [{ layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types that differ'],
])('refuses Qwen2 with a window on some layers: %j', async (change, message) => {
  writeCheckpoint(modelDir, { ...qwen2, use_sliding_window: true, sliding_window: 50, ...change });
  const settings = { executionProvider: 'cpu', weightFormat: 'fp32', numThreads: 1 } as const;

  await expect(openModel({ modelDir, cacheDir, ...settings })).rejects.toThrow(message);
});
