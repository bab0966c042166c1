import { readFileSync } from 'node:fs';
import type { TokenId } from '../../shared/ids.ts';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';
import type { GenerationDefaults, TokenizerPaths } from '../model/checkpoint.ts';
import { ModelError } from '../model/model-error.ts';
import type { OpenModel } from '../model/open-model.ts';
import type { ModelShape } from '../model/runner.ts';

/**
 * What the rest of the worker learns of a model once it is open. Crosses threads as a plain object.
 */
export interface OpenedModel {
  readonly architecture: string;
  readonly fingerprint: string;
  readonly shape: ModelShape;
  readonly eosTokenIds: readonly TokenId[];
  readonly defaults: ModelCard['defaults'];
  readonly tokenizerFiles: TokenizerFiles;
}

/** @throws {ModelError} when a file of the tokenizer is damaged */
export function toOpenedModel({ runner, checkpoint, fingerprint }: OpenModel): OpenedModel {
  return {
    architecture: checkpoint.config.architecture,
    fingerprint,
    shape: runner.shape,
    eosTokenIds: checkpoint.eosTokenIds,
    defaults: toDefaults(checkpoint.defaults),
    tokenizerFiles: readTokenizer(checkpoint.tokenizerPaths),
  };
}

/**
 * What the model's makers recommend; where they say nothing, nothing is done to the probabilities.
 */
function toDefaults(defaults: GenerationDefaults): ModelCard['defaults'] {
  return {
    temperature: defaults.doSample === false ? 0 : (defaults.temperature ?? 1),
    topP: defaults.topP ?? 1,
    topK: defaults.topK ?? 0,
    minP: defaults.minP ?? 0,
    repetitionPenalty: defaults.repetitionPenalty ?? 1,
  };
}

/**
 * A chat template in a file of its own joins the configuration, where newer directories no longer
 * have it.
 */
export function readTokenizer({ tokenizer, config, chatTemplate }: TokenizerPaths): TokenizerFiles {
  const configJson = config === null ? '{}' : readFileSync(config, 'utf8');
  const tokenizerJson = readFileSync(tokenizer, 'utf8');
  if (chatTemplate === null) return { tokenizerJson, tokenizerConfigJson: configJson };
  const template = { chat_template: readFileSync(chatTemplate, 'utf8') };
  const tokenizerConfig = { ...parseJson(configJson, config), ...template };
  return { tokenizerJson, tokenizerConfigJson: JSON.stringify(tokenizerConfig) };
}

function parseJson(text: string, path: string | null): object {
  try {
    return Object(JSON.parse(text));
  } catch (cause) {
    throw new ModelError(`${path} is not JSON; download it again`, { cause });
  }
}
