import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROPOSERS } from '../../worker/speculative/proposer.ts';
import { EngineClient } from '../../worker/thread/client.ts';
import { temporaryDirectory } from '../support/directories.ts';

const models = join(import.meta.dirname, '../../infra/models');
const cacheDir = temporaryDirectory();

function open(draftModelDir: string): Promise<EngineClient> {
  return EngineClient.open({
    modelDir: join(models, 'stories-target'),
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
    limits: { maxSequences: 4, maxBatchedTokens: 256 },
    kvCacheBytes: 2 ** 28,
    prefixCacheBytes: 0,
    speculation: {
      draftModelDir,
      draftWeightFormat: 'auto',
      proposers: PROPOSERS.filter((proposer) => proposer !== 'lookahead'),
      maxDraftTokens: 16,
    },
  });
}

describe('a draft model', () => {
  it('is refused when its tokenizer is another, with what is other', async () => {
    const otherDir = join(temporaryDirectory(), 'other');
    cpSync(join(models, 'stories-draft'), otherDir, { recursive: true });
    const path = join(otherDir, 'tokenizer.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const { vocab } = json.model;
    [vocab['\u0120to'], vocab['\u0120and']] = [vocab['\u0120and'], vocab['\u0120to']];
    writeFileSync(path, JSON.stringify(json));

    await expect(open(otherDir)).rejects.toThrow(
      `${otherDir} cannot draft, its tokenizer is another: token 267 is " and", the target's is " to"`,
    );
  });
});
