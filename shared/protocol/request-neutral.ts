import { PlatformError } from '../errors.ts';

type Test = (value: unknown) => boolean;

const isEmptyArray: Test = (value) => Array.isArray(value) && value.length === 0;
const oneOf =
  (...values: readonly unknown[]): Test =>
  (value) =>
    values.includes(value);
const never: Test = () => false;

/** Accepted and without effect: they say who asks or how to bill, not what to generate. */
const QUIET: Readonly<Record<string, Test>> = {
  user: (value) => typeof value === 'string',
  metadata: (value) => typeof value === 'object' && !Array.isArray(value),
  safety_identifier: (value) => typeof value === 'string',
  prompt_cache_key: (value) => typeof value === 'string',
  prompt_cache_retention: oneOf('in_memory', '24h'),
  prompt_cache_options: (value) => typeof value === 'object' && !Array.isArray(value),
};

/** Fields of OpenAI's that ask for what we do not do, each with the values that ask for nothing. */
const OPENAI: Readonly<Record<string, Test>> = {
  store: oneOf(false),
  service_tier: oneOf('auto', 'default'),
  suffix: oneOf(''),
  tools: isEmptyArray,
  tool_choice: oneOf('none', 'auto'),
  parallel_tool_calls: (value) => typeof value === 'boolean',
  functions: isEmptyArray,
  function_call: oneOf('none', 'auto'),
  response_format: (value) => isTextFormat(value),
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === 'text',
  audio: never,
  moderation: never,
  reasoning_effort: oneOf('none'),
  verbosity: oneOf('medium'),
  web_search_options: never,
};

/** The same of other servers' (vLLM, SGLang, llama.cpp), where they change what is answered. */
const OTHERS: Readonly<Record<string, Test>> = {
  // what an answer may be
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  structured_outputs: never,
  json_schema: never,
  grammar: never,
  regex: never,
  ebnf: never,
  // which token follows
  best_of: oneOf(1),
  use_beam_search: oneOf(false),
  length_penalty: oneOf(1),
  bad_words: isEmptyArray,
  allowed_token_ids: never,
  typical_p: oneOf(1),
  mirostat: oneOf(0),
  dry_multiplier: oneOf(0),
  xtc_probability: oneOf(0),
  repeat_penalty: oneOf(1),
  // what is read, and what is shown of it
  add_special_tokens: never,
  truncate_prompt_tokens: never,
  prompt_logprobs: never,
  skip_special_tokens: oneOf(true),
  include_stop_str_in_output: oneOf(false),
  echo: oneOf(false),
  // how a chat becomes a prompt
  chat_template: never,
  chat_template_kwargs: (value) => isEmptyObject(value),
  documents: isEmptyArray,
  add_generation_prompt: oneOf(true),
  continue_final_message: oneOf(false),
};

const UNSUPPORTED = { ...OPENAI, ...OTHERS };

function isEmptyObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

function isTextFormat(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'text';
}

export interface SiftedBody {
  /** What is left to check: known fields with a value. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Names nobody knows, in the order they came. */
  readonly ignored: readonly string[];
}

/**
 * Sorts a body's fields into those of `known`, those that ask for nothing, and those to be ignored.
 * `null` counts as absent everywhere.
 *
 * @throws {PlatformError} `invalid_request` when the body is no object, `unsupported_parameter` for
 *   a field that is known to ask for something we do not do
 */
export function siftBody(body: unknown, known: Readonly<Record<string, unknown>>): SiftedBody {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new PlatformError('invalid_request', 'the body must be a JSON object');
  }
  const fields: Record<string, unknown> = {};
  const ignored: string[] = [];
  for (const [name, value] of Object.entries(body)) {
    if (Object.hasOwn(known, name)) {
      if (value !== null) fields[name] = value;
    } else if (!isNeutral(name, value)) ignored.push(name);
  }
  return { fields, ignored };
}

/** Whether the field is known to have no effect. */
function isNeutral(name: string, value: unknown): boolean {
  const test = Object.hasOwn(QUIET, name) ? QUIET[name] : undefined;
  if (test !== undefined) {
    if (value === null || test(value)) return true;
    throw new PlatformError('invalid_request', `${name} has the wrong type`, { param: name });
  }
  const asksNothing = Object.hasOwn(UNSUPPORTED, name) ? UNSUPPORTED[name] : undefined;
  if (asksNothing === undefined) return false;
  if (value === null || asksNothing(value)) return true;
  throw new PlatformError('unsupported_parameter', `${name} is not supported`, { param: name });
}
