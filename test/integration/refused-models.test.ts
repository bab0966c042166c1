import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { EngineClient } from '../../worker/thread/client.ts';
import { temporaryDirectory } from '../support/directories.ts';

const models = join(import.meta.dirname, '../../infra/models');
const directory = temporaryDirectory();
const modelDir = join(directory, 'model');
const at = (name: string) => join(modelDir, name);

beforeEach(() => {
  rmSync(modelDir, { recursive: true, force: true });
  cpSync(join(models, 'stories-draft'), modelDir, { recursive: true });
});

function open(): Promise<EngineClient> {
  return EngineClient.open({
    modelDir,
    cacheDir: join(directory, 'cache'),
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
    limits: { maxSequences: 2, maxBatchedTokens: 16 },
    kvCacheBytes: 2 ** 28,
    prefixCacheBytes: 0,
    speculation: {
      draftModelDir: null,
      draftWeightFormat: 'fp32',
      proposers: [],
      maxDraftTokens: 8,
    },
  });
}

function changeJson(name: string, change: (json: Record<string, unknown>) => void): void {
  const json: Record<string, unknown> = JSON.parse(readFileSync(at(name), 'utf8'));
  change(json);
  writeFileSync(at(name), JSON.stringify(json));
}

const refused: readonly [string, () => void, string][] = [
  [
    'half a tokenizer',
    () => truncateSync(at('tokenizer.json'), 999),
    'tokenizer.json cannot be used: ',
  ],
  [
    "half a tokenizer's config",
    () => truncateSync(at('tokenizer_config.json'), 99),
    'tokenizer_config.json cannot be used: ',
  ],
  [
    'the same beside a chat template of its own',
    () => {
      truncateSync(at('tokenizer_config.json'), 99);
      writeFileSync(at('chat_template.jinja'), 'x');
    },
    'tokenizer_config.json is not JSON; download it again',
  ],
  [
    'a chat template that cannot be read',
    () =>
      changeJson('tokenizer_config.json', (json) => Object.assign(json, { chat_template: '{{ x' })),
    'tokenizer_config.json: the chat template cannot be read: Unexpected end of input',
  ],
  [
    'the same in a file of its own',
    () => writeFileSync(at('chat_template.jinja'), '{% for %}'),
    'chat_template.jinja: the chat template cannot be read: Unexpected token: CloseStatement',
  ],
  [
    'the tokenizer of a larger model',
    () =>
      changeJson('tokenizer.json', (json) => {
        Object(json.model).vocab.Once = 2448;
      }),
    'tokenizer.json gives plain text the token 2448, but the model has 2048',
  ],
];

it.each(refused)(
  'a worker refuses %s, in one line that names the file',
  async (_, damage, message) => {
    damage();
    const error = await open().catch((thrown: unknown) => thrown);
    expect(String(error)).toContain(modelDir);
    expect(String(error)).toContain(message);
    expect(String(error)).not.toContain('\n');
  },
);

it('a worker serves a model whose tokenizer has a token more than its vocabulary', async () => {
  changeJson('tokenizer.json', (json) => {
    const added = { id: 2048, content: '<|extra|>', special: true, normalized: false };
    Object.assign(json, { added_tokens: [...Object(json.added_tokens), added] });
  });
  await using engine = await open();
  expect(engine.model.shape.vocabSize).toBe(2048);
});
