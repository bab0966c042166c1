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
const UNSUPPORTED: Readonly<Record<string, Test>> = {
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
 *   a field of OpenAI's that asks for something we do not do
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
