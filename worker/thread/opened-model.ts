import { readFileSync } from 'node:fs';
import type { TokenId } from '../../shared/ids.ts';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { contextWithin, rowBytes, wholeBlocks } from '../cache/layout.ts';
import type { GenerationDefaults, TokenizerPaths } from '../model/checkpoint.ts';
import { ModelError } from '../model/model-error.ts';
import type { OpenModel } from '../model/open-model.ts';
import type { ModelShape } from '../model/runner.ts';

/** What the memory for keys and values is enough for. */
export interface KvCacheBudget {
  readonly mib: number;
  /** Tokens that one request may have: the model's, or as many as fit. */
  readonly contextTokens: number;
  readonly modelContextTokens: number;
  /** Requests of that length that may run at once; shorter ones take less. */
  readonly fullRows: number;
}

/**
 * What the rest of the worker learns of a model once it is open. Crosses threads as a plain object.
 */
export interface OpenedModel {
  readonly architecture: string;
  readonly fingerprint: string;
  /** With the context that is served. */
  readonly shape: ModelShape;
  readonly kvCache: KvCacheBudget;
  readonly eosTokenIds: readonly TokenId[];
  readonly defaults: ModelCard['defaults'];
  readonly tokenizerFiles: TokenizerFiles;
}

/**
 * @param kvCacheBytes absent for as many as it takes
 * @throws {ModelError} when a file of the tokenizer is damaged, or memory is not enough for a block
 */
export function toOpenedModel(
  { runner, checkpoint, fingerprint }: OpenModel,
  kvCacheBytes = Infinity,
): OpenedModel {
  const kvCache = toBudget(runner.shape, kvCacheBytes);
  const { contextTokens, modelContextTokens } = kvCache;
  const isWhole = contextTokens === modelContextTokens;
  return {
    architecture: checkpoint.config.architecture,
    // Where a text must end is part of what it says.
    fingerprint: isWhole ? fingerprint : `${fingerprint}-c${contextTokens}`,
    shape: { ...runner.shape, maxSequenceTokens: contextTokens },
    kvCache,
    eosTokenIds: checkpoint.eosTokenIds,
    defaults: toDefaults(checkpoint.defaults),
    tokenizerFiles: readTokenizer(checkpoint.tokenizerPaths),
  };
}

function toBudget(shape: ModelShape, numBytes: number): KvCacheBudget {
  const { maxSequenceTokens } = shape;
  const contextTokens = contextWithin(shape, numBytes, maxSequenceTokens);
  const mib = numBytes / 2 ** 20;
  if (contextTokens === 0) {
    const needed = Math.ceil(rowBytes(shape, wholeBlocks(1)) / 2 ** 20);
    throw new ModelError(`KV_CACHE_MIB is ${mib}; the least for this model is ${needed}`);
  }
  const fullRowBytes = rowBytes(shape, wholeBlocks(contextTokens));
  const fullRows = Math.floor(numBytes / fullRowBytes);
  return { mib, contextTokens, modelContextTokens: maxSequenceTokens, fullRows };
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
