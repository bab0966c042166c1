import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { type ModelConfig, parseConfig } from './config.ts';
import { ModelError } from './model-error.ts';
import { Weights } from './weights.ts';

/** Sampling defaults of `generation_config.json`; absent fields were left to the server. */
export interface GenerationDefaults {
  readonly doSample: boolean | null;
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly topK: number | null;
  readonly minP: number | null;
  readonly repetitionPenalty: number | null;
}

/** Files of the tokenizer, `null` where the directory has none. */
export interface TokenizerPaths {
  readonly tokenizer: string;
  readonly config: string | null;
  /** A chat template in a file of its own. */
  readonly chatTemplate: string | null;
}

/** A Hugging Face model directory. */
export interface Checkpoint {
  readonly modelDir: string;
  /** The directory's name. */
  readonly name: string;
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly defaults: GenerationDefaults;
  readonly tokenizerPaths: TokenizerPaths;
  /** Files whose bytes decide what the model says. */
  readonly paths: readonly string[];
}

const tokenId = z.int().nonnegative();

const tokensSchema = z.object({
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});

const generationSchema = tokensSchema.extend({
  do_sample: z.boolean().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().nonnegative().nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
});

/**
 * Opens a model directory: config, weights and the places of its tokenizer's files. The weights
 * stay open for reading until they are closed.
 *
 * @throws {ModelError} when a file is missing, damaged or asks for what is not supported
 */
export function openCheckpoint(modelDir: string): Checkpoint {
  const directory = resolve(modelDir);
  if (!existsSync(directory) || !statSync(directory).isDirectory()) {
    throw new ModelError(`${directory} is not a directory; MODEL_DIR must name a model directory`);
  }
  const at = (name: string) => join(directory, name);
  const optional = (name: string) => (existsSync(at(name)) ? at(name) : null);

  const configJson = readJson(at('config.json'));
  const config = parseConfig(configJson, at('config.json'));
  const generationPath = optional('generation_config.json');
  const generation = generationPath ? readJson(generationPath) : {};
  const tokenizerPaths = {
    tokenizer: requireFile(at('tokenizer.json')),
    config: optional('tokenizer_config.json'),
    chatTemplate: optional('chat_template.jinja'),
  };
  const weights = new Weights(directory);
  return {
    modelDir: directory,
    name: basename(directory),
    config,
    weights,
    ...parseGeneration(configJson, generation, generationPath ?? at('config.json')),
    tokenizerPaths,
    paths: [
      at('config.json'),
      generationPath,
      ...weights.paths,
      ...Object.values(tokenizerPaths),
    ].filter((path) => path !== null),
  };
}

function requireFile(path: string): string {
  if (existsSync(path)) return path;
  throw new ModelError(`${path} is missing; is the model directory complete?`);
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(requireFile(path), 'utf8'));
  } catch (cause) {
    if (cause instanceof ModelError) throw cause;
    throw new ModelError(`${path} is not JSON; download it again`, { cause });
  }
}

function parseGeneration(configJson: unknown, generationJson: unknown, path: string) {
  const config = tokensSchema.safeParse(configJson);
  const generation = generationSchema.safeParse(generationJson);
  if (!config.success || !generation.success) {
    const error = generation.error ?? config.error;
    const [issue] = error?.issues ?? [];
    throw new ModelError(`${path}: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const raw = generation.data;
  const eos = raw.eos_token_id ?? config.data.eos_token_id ?? [];
  return {
    bosTokenId: raw.bos_token_id ?? config.data.bos_token_id ?? null,
    eosTokenIds: typeof eos === 'number' ? [eos] : eos,
    defaults: {
      doSample: raw.do_sample ?? null,
      temperature: raw.temperature ?? null,
      topP: raw.top_p ?? null,
      topK: raw.top_k ?? null,
      minP: raw.min_p ?? null,
      repetitionPenalty: raw.repetition_penalty ?? null,
    },
  };
}
