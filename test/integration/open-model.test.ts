import {
  closeSync,
  cpSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { ModelError } from '../../worker/model/model-error.ts';
import { openModel } from '../../worker/model/open-model.ts';
import { CONFIGS } from '../support/architectures.ts';
import { randomTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { HostCache } from '../support/host-cache.ts';

const directory = temporaryDirectory();
const modelDir = join(directory, 'model');
const cacheDir = join(directory, 'cache');
const graphsDir = join(cacheDir, 'graphs');
const config = CONFIGS['llama, grouped heads']!;

beforeEach(() => {
  rmSync(modelDir, { recursive: true, force: true });
  rmSync(cacheDir, { recursive: true, force: true });
  writeCheckpoint(modelDir, config);
});

function open() {
  return openModel({
    modelDir,
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
  });
}

/** Opens, reads one token and closes. */
async function firstLogits(): Promise<Float32Array> {
  const { runner } = await open();
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 64 });
  const [logits] = await cache.read(runner, [[5]]);
  await runner.close();
  return logits![0]!;
}

/** The only written graph, by default with nothing partial beside it. */
function graphDirectory(pattern = /./): string {
  const names = readdirSync(graphsDir).filter((name) => pattern.test(name));
  expect(names).toHaveLength(1);
  return join(graphsDir, names[0]!);
}

/** What is in a directory, by name. */
function filesOf(at: string): Map<string, Buffer> {
  const names = readdirSync(at).sort();
  return new Map(names.map((name) => [name, readFileSync(join(at, name))]));
}

/** Changes one bit. */
function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}

describe('openModel', () => {
  it('writes a graph once and uses it again', async () => {
    const logits = await firstLogits();
    const written = statSync(join(graphDirectory(), 'model.onnx')).mtimeMs;

    expect(await firstLogits()).toEqual(logits);
    expect(statSync(join(graphDirectory(), 'model.onnx')).mtimeMs).toBe(written);
  });

  it.each([
    ['a truncated graph', (at: string) => truncateSync(join(at, 'model.onnx'), 500)],
    ['truncated weights', (at: string) => truncateSync(join(at, 'weights.bin'), 4096)],
    ['missing weights', (at: string) => rmSync(join(at, 'weights.bin'))],
    ['a graph of which a byte was changed', (at: string) => flip(join(at, 'model.onnx'), 700)],
    ['weights of which a byte was changed', (at: string) => flip(join(at, 'weights.bin'), 5000)],
    ['no seal, as after a crash', (at: string) => rmSync(join(at, 'complete.json'))],
    ['half a seal', (at: string) => truncateSync(join(at, 'complete.json'), 9)],
  ])('writes it again when it finds %s', async (_, damage) => {
    const logits = await firstLogits();
    const written = filesOf(graphDirectory());
    damage(graphDirectory());

    expect(await firstLogits()).toEqual(logits);
    expect(filesOf(graphDirectory())).toEqual(written);
    expect([...written.keys()]).toEqual(['complete.json', 'model.onnx', 'weights.bin']);
  });

  it('ignores what an interrupted write left', async () => {
    const logits = await firstLogits();
    cpSync(graphDirectory(), join(graphsDir, 'partial-abc'), { recursive: true });
    rmSync(graphDirectory(/^[^p]/), { recursive: true });
    truncateSync(join(graphsDir, 'partial-abc', 'weights.bin'), 100);

    expect(await firstLogits()).toEqual(logits);
  });

  it('removes what was written long ago, and never what is being written', async () => {
    await firstLogits();
    const longAgo = new Date(Date.now() - 2 * 3_600_000);
    for (const name of ['partial-old', 'partial-slow']) {
      cpSync(graphDirectory(/^[^p]/), join(graphsDir, name), { recursive: true });
      utimesSync(join(graphsDir, name), longAgo, longAgo);
    }
    for (const name of ['model.onnx', 'weights.bin']) {
      utimesSync(join(graphsDir, 'partial-old', name), longAgo, longAgo);
    }
    rmSync(graphDirectory(/^[^p]/), { recursive: true });
    await firstLogits();

    const partial = readdirSync(graphsDir).filter((name) => name.startsWith('partial-'));
    expect(partial).toEqual(['partial-slow']);
  });

  it('takes no graph of other weights', async () => {
    const logits = await firstLogits();
    writeCheckpoint(modelDir, config, randomTensors(config, 2));

    expect(await firstLogits()).not.toEqual(logits);
    expect(readdirSync(graphsDir)).toHaveLength(2);
  });

  it('names all files by one digest, and with it the kind of worker and its release', async () => {
    const digests = new Set<string>();
    for (const change of [
      () => {},
      () => writeCheckpoint(modelDir, { ...config, rope_theta: 500 }),
      () => writeCheckpoint(modelDir, config, randomTensors(config, 2)),
      () => writeFileSync(join(modelDir, 'tokenizer.json'), '{ }'),
      () => writeFileSync(join(modelDir, 'generation_config.json'), '{"eos_token_id": 7}'),
    ]) {
      change();
      const { runner, digest, fingerprint } = await open();
      await runner.close();
      digests.add(digest);
      expect(fingerprint).toMatch(/^[0-9a-f]{16}-fp32-cpu-\w+:\S+-g\d+\.ort\d+\.\d+\.\d+$/);
      expect(fingerprint.startsWith(digest.slice(0, 16))).toBe(true);
    }
    expect(digests.size).toBe(5);
  });
});

describe('openModel refuses, in one line that names the file,', () => {
  const refused: [string, () => void, string][] = [
    ['no directory', () => rmSync(modelDir, { recursive: true }), 'is not a directory; MODEL_DIR'],
    ['no config', () => rmSync(join(modelDir, 'config.json')), 'config.json is missing'],
    ['half a config', () => truncateSync(join(modelDir, 'config.json'), 20), 'config.json is not'],
    ['no tokenizer', () => rmSync(join(modelDir, 'tokenizer.json')), 'tokenizer.json is missing'],
    ['no weights', () => rmSync(join(modelDir, 'model.safetensors')), 'only safetensors weights'],
    [
      'truncated weights',
      () => truncateSync(join(modelDir, 'model.safetensors'), 5000),
      'model.safetensors is truncated: 5000 bytes of',
    ],
    [
      'weights of which a part was overwritten',
      () => {
        const file = openSync(join(modelDir, 'model.safetensors'), 'r+');
        writeSync(file, Buffer.alloc(4096, 0xff), 0, 4096, 20_000);
        closeSync(file);
      },
      'model.safetensors is corrupt: tensor model.embed_tokens.weight has numbers that are not finite',
    ],
    [
      'a missing tensor',
      () => {
        const tensors = randomTensors(config);
        tensors.delete('model.norm.weight');
        writeCheckpoint(modelDir, config, tensors);
      },
      'the weights lack tensor model.norm.weight [48]',
    ],
    [
      'a tensor that the architecture has no place for',
      () => {
        const name = 'model.layers.0.self_attn.q_proj.bias';
        const data = new Float32Array(48);
        writeCheckpoint(modelDir, config, randomTensors(config).set(name, { shape: [48], data }));
      },
      'tensor model.layers.0.self_attn.q_proj.bias has no place in LlamaForCausalLM',
    ],
    [
      'a bad generation config',
      () => writeFileSync(join(modelDir, 'generation_config.json'), '{"temperature": "hot"}'),
      'generation_config.json: temperature:',
    ],
  ];

  it.each(refused)('%s', async (_, damage, message) => {
    damage();
    const error = await open().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ModelError);
    expect(String(error)).toContain(message);
    expect(String(error)).not.toContain('\n');
  });
});
