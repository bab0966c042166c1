import { z } from 'zod';
import { PlatformError } from '../errors.ts';
import type { TokenId } from '../ids.ts';
import {
  commonFields,
  type GenerationOptions,
  HALF_PAIR,
  LIMITS,
  toGenerationOptions,
} from './request-fields.ts';

/** OpenAI's, for completions that name no limit. */
const DEFAULT_MAX_TOKENS = 16;

export const completionFields = {
  ...commonFields,
  prompt: z.unknown().refine((value) => value !== undefined, { error: 'is missing' }),
  max_tokens: z.int().min(0).optional(),
  best_of: z.int().min(1).optional(),
  echo: z.boolean().default(false),
  logprobs: z.int().min(0).max(LIMITS.maxTopLogprobs).optional(),
} as const;

export const completionSchema = z.object(completionFields);

/** Text still to be encoded, or tokens as they are. */
export type Prompt = string | readonly TokenId[];

export interface CompletionRequest extends GenerationOptions {
  readonly endpoint: 'completions';
  readonly prompts: readonly Prompt[];
  /** `null` for as many as the context policy allows. */
  readonly maxTokens: number | null;
  readonly hasExplicitMaxTokens: boolean;
  readonly echo: boolean;
  readonly topLogprobs: number | null;
}

/**
 * @throws {PlatformError} `invalid_request` when fields contradict each other or the prompt is
 *   malformed
 */
export function toCompletionRequest(fields: z.infer<typeof completionSchema>): CompletionRequest {
  const prompts = parsePrompts(fields.prompt);
  const { n, best_of: bestOf } = fields;
  const isEndless = fields.context_policy === 'sinks';
  const maxTokens = fields.max_tokens ?? (isEndless ? null : DEFAULT_MAX_TOKENS);
  if (isEndless && fields.echo && fields.logprobs !== undefined) {
    const message = 'echo with logprobs needs context_policy to be "stop"';
    throw new PlatformError('unsupported_parameter', message, { param: 'echo' });
  }
  if (bestOf !== undefined && bestOf !== n) {
    const message = `best_of is ${bestOf} and n is ${n}; only an equal best_of is supported`;
    throw new PlatformError('unsupported_parameter', message, { param: 'best_of' });
  }
  if (maxTokens === 0 && !fields.echo) {
    const message = 'max_tokens is 0; the least is 1 without echo';
    throw new PlatformError('invalid_request', message, { param: 'max_tokens' });
  }
  if (prompts.length * n > LIMITS.maxChoices) {
    const message = `${prompts.length} prompts times n of ${n} are ${prompts.length * n} choices; the limit is ${LIMITS.maxChoices}`;
    throw new PlatformError('invalid_request', message, { param: n > 1 ? 'n' : 'prompt' });
  }
  return {
    ...toGenerationOptions(fields),
    endpoint: 'completions',
    prompts,
    maxTokens,
    hasExplicitMaxTokens: fields.max_tokens !== undefined,
    echo: fields.echo,
    topLogprobs: fields.logprobs ?? null,
  };
}

/** One of OpenAI's four forms: a string, strings, token ids, or arrays of token ids. */
function parsePrompts(prompt: unknown): readonly Prompt[] {
  if (typeof prompt === 'string') return [toText(prompt, 'prompt')];
  if (!Array.isArray(prompt)) return refuse('prompt', 'must be a string or an array');
  if (prompt.length === 0) return refuse('prompt', 'is an empty array; the least is one entry');
  if (typeof prompt[0] === 'number') return [toTokenIds(prompt, 'prompt')];
  if (prompt.length > LIMITS.maxChoices) {
    return refuse('prompt', `has ${prompt.length} entries; the limit is ${LIMITS.maxChoices}`);
  }
  const isText = typeof prompt[0] === 'string';
  return prompt.map((entry: unknown, i) => {
    const param = `prompt[${i}]`;
    return isText ? toText(entry, param) : toTokenIds(entry, param);
  });
}

function toText(value: unknown, param: string): string {
  if (typeof value !== 'string') return refuse(param, 'must be a string like the first entry');
  return value.isWellFormed() ? value : refuse(param, HALF_PAIR);
}

function toTokenIds(value: unknown, param: string): readonly TokenId[] {
  if (!Array.isArray(value)) return refuse(param, 'must be a string or an array of token ids');
  if (value.length === 0) return refuse(param, 'is an empty array; the least is one token');
  const wrong = value.findIndex((id: unknown) => !Number.isSafeInteger(id) || Number(id) < 0);
  return wrong < 0 ? value : refuse(`${param}[${wrong}]`, 'must be a token id');
}

function refuse(param: string, reason: string): never {
  throw new PlatformError('invalid_request', `${param} ${reason}`, { param });
}
