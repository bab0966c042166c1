import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';

const directory = join(import.meta.dirname, '../../infra/models/stories-target');

/** The tokenizer of the embedded model. */
export const storiesFiles: TokenizerFiles = {
  tokenizerJson: readFileSync(join(directory, 'tokenizer.json'), 'utf8'),
  tokenizerConfigJson: readFileSync(join(directory, 'tokenizer_config.json'), 'utf8'),
};

/** The card that a worker with the embedded model would register. */
export const storiesCard: ModelCard = {
  name: 'stories-target',
  createdMs: 1_700_000_000_000,
  architecture: 'LlamaForCausalLM',
  vocabSize: 2048,
  maxSequenceTokens: 512,
  eosTokenIds: [0],
  tokenizerDigest: 'stories-digest',
  fingerprint: 'fp-stories',
  canSlide: false,
  defaults: { temperature: 0.8, topP: 0.95, topK: 0, minP: 0, repetitionPenalty: 1 },
};
