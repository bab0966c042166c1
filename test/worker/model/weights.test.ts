import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Weights } from '../../../worker/model/weights.ts';
import { encodeSafetensors } from '../../support/checkpoints.ts';
import { temporaryDirectory } from '../../support/directories.ts';

const parent = temporaryDirectory();

function writeShard(directory: string, fileName: string, name: string, values: number[]): void {
  const tensor = { shape: [values.length], data: Float32Array.from(values) };
  writeFileSync(join(directory, fileName), encodeSafetensors(new Map([[name, tensor]])));
}

function shardedDirectory(): string {
  const directory = mkdtempSync(join(parent, 'sharded-'));
  writeShard(directory, 'model-1.safetensors', 'a', [1, 2]);
  writeShard(directory, 'model-2.safetensors', 'b', [3]);
  const map = { a: 'model-1.safetensors', b: 'model-2.safetensors' };
  const index = join(directory, 'model.safetensors.index.json');
  writeFileSync(index, JSON.stringify({ weight_map: map }));
  return directory;
}

describe('Weights', () => {
  it('finds tensors in all shards, and tells which were never asked for', () => {
    const weights = new Weights(shardedDirectory());

    expect([...weights.tensor('b', [1]).load()]).toEqual([3]);
    expect(weights.unusedNames).toEqual(['a']);
    expect([...weights.tensor('a', [2]).load()]).toEqual([1, 2]);
    expect(weights.unusedNames).toEqual([]);
    weights.close();
  });

  it('misses a shard, and a tensor that the index promises', () => {
    const directory = shardedDirectory();
    writeShard(directory, 'model-2.safetensors', 'c', [3]);
    expect(() => new Weights(directory)).toThrow(
      'model-2.safetensors lacks tensor b that the index promises; download it again',
    );

    const index = join(directory, 'model.safetensors.index.json');
    writeFileSync(index, JSON.stringify({ weight_map: { a: 'model-9.safetensors' } }));
    expect(() => new Weights(directory)).toThrow('model-9.safetensors cannot be read');
    writeFileSync(index, '{');
    expect(() => new Weights(directory)).toThrow('index.json is corrupt; download it again');
  });

  it('refuses a tensor of another shape than the config calls for', () => {
    const weights = new Weights(shardedDirectory());
    expect(() => weights.tensor('a', [3])).toThrow('tensor a is [2]; config.json calls for [3]');
    expect(() => weights.tensor('x', [3])).toThrow('the weights lack tensor x [3]');
  });

  it('says what kind of weights it wants', () => {
    const directory = mkdtempSync(join(parent, 'empty-'));
    expect(() => new Weights(directory)).toThrow('only safetensors weights are supported');
  });
});
