import type { z } from 'zod';
import { PlatformError } from '../errors.ts';

type Issue = z.core.$ZodIssue;

/** How much of a wrong value a message repeats. */
const MAX_QUOTED = 40;

/** Where in the body, as JavaScript would say it: `messages[0].content`. */
export function toParam(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => {
      if (typeof key === 'number') return `[${key}]`;
      return i === 0 ? String(key) : `.${String(key)}`;
    })
    .join('');
}

/**
 * Parses with `schema`, and says of the first thing that is wrong what it is, where, and what the
 * limit is.
 *
 * @throws {PlatformError} `invalid_request`; `unsupported_parameter` for a custom issue that says
 *   so in its params
 */
export function parseFields<Schema extends z.ZodType>(
  schema: Schema,
  fields: unknown,
): z.infer<Schema> {
  const parsed = schema.safeParse(fields, { reportInput: true });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue === undefined) throw new PlatformError('invalid_request', 'unreadable request');
  const param = toParam(issue.path);
  const isUnsupported = issue.code === 'custom' && issue.params?.isUnsupported === true;
  const code = isUnsupported ? 'unsupported_parameter' : 'invalid_request';
  throw new PlatformError(code, `${param} ${describeIssue(issue)}`.trim(), { param });
}

function describeIssue(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined
        ? 'is missing'
        : `is ${describe(issue.input)}; it must be ${article(issue.expected)}`;
    case 'too_big':
      return `${measure(issue.origin, issue.input)}; the limit is ${issue.maximum}`;
    case 'too_small': {
      const least = issue.inclusive === false ? 'it must be greater than' : 'the least is';
      return `${measure(issue.origin, issue.input)}; ${least} ${issue.minimum}`;
    }
    case 'invalid_value': {
      const is = issue.input === undefined ? 'is missing' : `is ${describe(issue.input)}`;
      const values = issue.values.map(describe).join(', ');
      return `${is}; it must be ${issue.values.length > 1 ? 'one of ' : ''}${values}`;
    }
    case 'invalid_key':
      return `${issue.issues[0]?.message ?? 'is not a known name'}`;
    default:
      return issue.message;
  }
}

function measure(origin: string, input: unknown): string {
  if (Array.isArray(input)) return `has ${input.length} entries`;
  if (typeof input === 'string') return `has ${input.length} characters`;
  return origin === 'number' || origin === 'int' ? `is ${describe(input)}` : 'has the wrong size';
}

function article(expected: string): string {
  if (expected === 'int') return 'an integer';
  return /^[aeiou]/.test(expected) ? `an ${expected}` : `a ${expected}`;
}

function describe(value: unknown): string {
  if (typeof value === 'string') {
    const isLong = value.length > MAX_QUOTED;
    return JSON.stringify(isLong ? `${value.slice(0, MAX_QUOTED)}…` : value);
  }
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
