import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeModel } from '../../infra/hub/describe-model.ts';
import { pullModel } from '../../infra/hub/pull-model.ts';
import { openCheckpoint } from '../../worker/model/checkpoint.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { openTestHub, type TestHub } from '../support/hub.ts';

const served = 'infra/models/stories-draft';
const root = temporaryDirectory();
let numDirectories = 0;

function newDirectory(): string {
  numDirectories += 1;
  return join(root, `${numDirectories}`);
}

function pull(hub: TestHub, directory: string, { id = 'maker/model', token = '' } = {}) {
  const fetched: string[] = [];
  const done = pullModel(
    { endpoint: hub.endpoint, token: token || null },
    {
      id,
      revision: 'main',
      directory,
      onProgress: () => undefined,
      onFetched: ({ name }) => fetched.push(name),
    },
  );
  return done.then(() => fetched);
}

describe('pulling a model', () => {
  it('brings what a worker reads, and nothing else', async () => {
    await using hub = await openTestHub(served);
    const directory = newDirectory();

    const fetched = await pull(hub, directory);
    expect(readdirSync(directory).sort()).toEqual([...fetched].sort());
    expect(fetched).not.toContain('README.md');
    for (const name of fetched) {
      expect(readFileSync(join(directory, name))).toEqual(hub.files.get(name));
    }
    openCheckpoint(directory).weights.close();
    expect(await pull(hub, directory)).toEqual([]);
  });

  it('goes on where a connection broke, and where an earlier run did', async () => {
    await using hub = await openTestHub(served);
    const directory = newDirectory();
    await pull(hub, directory);
    const name = 'model.safetensors';
    const whole = readFileSync(join(directory, name));
    writeFileSync(join(directory, name), 'another version');
    writeFileSync(join(directory, `${name}.part`), whole.subarray(0, 1000));
    hub.asked.length = 0;
    hub.cuts.push(500);

    expect(await pull(hub, directory)).toEqual([name]);
    expect(hub.asked).toEqual([`${name} bytes=1000-`, `${name} bytes=1500-`]);
    expect(readFileSync(join(directory, name))).toEqual(whole);
    expect(existsSync(join(directory, `${name}.part`))).toBe(false);
  });

  it.each(['model.safetensors', 'tokenizer.json'])(
    'keeps nothing of a damaged %s',
    async (name) => {
      await using hub = await openTestHub(served);
      const directory = newDirectory();
      hub.damaged.add(name);
      await expect(pull(hub, directory)).rejects.toThrow(`${name} has not the digest`);
      expect(readdirSync(directory).filter((each) => each.startsWith(name))).toEqual([]);

      hub.damaged.clear();
      expect(await pull(hub, directory)).toContain(name);
    },
  );

  it('refuses what is not served here before it fetches weights', async () => {
    await using hub = await openTestHub(served);
    hub.files.set('config.json', Buffer.from('{"architectures": ["MambaForCausalLM"]}'));
    await expect(pull(hub, newDirectory())).rejects.toThrow('MambaForCausalLM is not supported');
    expect(hub.asked).toEqual(['config.json whole']);
  });

  it('takes weights in shards, by their index', async () => {
    await using hub = await openTestHub(served);
    const weights = hub.files.get('model.safetensors') ?? Buffer.of();
    hub.files.delete('model.safetensors');
    hub.files.set('model-00001-of-00002.safetensors', weights);
    hub.files.set('model-00002-of-00002.safetensors', weights);
    hub.files.set('model.safetensors.index.json', Buffer.from('{}'));
    hub.files.set('model.fp16.safetensors', weights);
    expect((await pull(hub, newDirectory())).slice(-3)).toEqual([
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
    ]);
  });

  it('says what is wrong, in a line', async () => {
    await using hub = await openTestHub(served);
    const directory = newDirectory();
    await expect(pull(hub, directory, { id: 'maker/other' })).rejects.toThrow('no such model');
    await expect(pull(hub, directory, { id: '../secrets' })).rejects.toThrow('owner/name');
    hub.token = 'secret';
    await expect(pull(hub, directory)).rejects.toThrow('HF_TOKEN');
    expect(await pull(hub, directory, { token: 'secret' })).not.toEqual([]);
    hub.files.delete('model.safetensors');
    await expect(pull(hub, directory, { token: 'secret' })).rejects.toThrow('only safetensors');
    const gone = { ...hub, endpoint: 'http://127.0.0.1:1' };
    await expect(pull(gone, directory)).rejects.toThrow('HF_ENDPOINT');
  });
});

describe('looking at a model', () => {
  it('tells what it is, and what it takes', () => {
    const lines = describeModel('infra/models/stories-target');
    expect(lines.map((line) => line.replace(/ +/g, ' '))).toEqual([
      'architecture LlamaForCausalLM',
      'parameters 3.48 M in BF16, 6.96 MB in a file',
      'layers 5, 256 wide, 512 within',
      'heads 8 of 32, 4 for keys and values',
      'context 512 tokens, rotary positions of base 10000',
      'beyond it with attention sinks',
      'cache 5.12 KB a token, 2.62 MB a row',
      'text 2048 tokens, a chat template',
    ]);
  });

  it('says what a worker would end with', () => {
    const directory = newDirectory();
    cpSync(served, directory, { recursive: true });
    const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
    const wider = { ...config, num_hidden_layers: config.num_hidden_layers + 1 };
    writeFileSync(join(directory, 'config.json'), JSON.stringify(wider));
    expect(() => describeModel(directory)).toThrow('the weights lack tensor');
  });
});
