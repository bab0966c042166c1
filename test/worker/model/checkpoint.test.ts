import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../worker/model/checkpoint.ts';
import { CONFIGS } from '../../support/architectures.ts';
import { writeCheckpoint } from '../../support/checkpoints.ts';
import { temporaryDirectory } from '../../support/directories.ts';

const modelDir = join(temporaryDirectory(), 'my-model');

function openWith(files: Record<string, unknown>, change = {}) {
  writeCheckpoint(modelDir, { ...CONFIGS['llama, grouped heads'], ...change });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(modelDir, name), JSON.stringify(content));
  }
  const checkpoint = openCheckpoint(modelDir);
  checkpoint.weights.close();
  return checkpoint;
}

describe('openCheckpoint', () => {
  it('takes its name from the directory and ends of sequence from config.json', () => {
    const { name, bosTokenId, eosTokenIds } = openWith({}, { bos_token_id: 1, eos_token_id: 2 });
    expect({ name, bosTokenId, eosTokenIds }).toEqual({
      name: 'my-model',
      bosTokenId: 1,
      eosTokenIds: [2],
    });
  });

  it('prefers generation_config.json, where there may be several ends', () => {
    const generation = { eos_token_id: [7, 8], temperature: 0.6, top_k: 20, do_sample: true };
    const checkpoint = openWith({ 'generation_config.json': generation }, { eos_token_id: 2 });

    expect(checkpoint.eosTokenIds).toEqual([7, 8]);
    expect(checkpoint.defaults).toEqual({
      doSample: true,
      temperature: 0.6,
      topK: 20,
      topP: null,
      minP: null,
      repetitionPenalty: null,
    });
  });

  it('lists every file that decides what the model says, the chat template too', () => {
    const { paths } = openWith({
      'chat_template.jinja': '{{ x }}',
      'generation_config.json': { eos_token_id: 7 },
      'tokenizer_config.json': {},
    });
    expect(paths.map((path) => path.slice(modelDir.length + 1))).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
      'chat_template.jinja',
    ]);
  });
});
