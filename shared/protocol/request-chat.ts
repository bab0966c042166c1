import { z } from 'zod';
import { PlatformError } from '../errors.ts';
import {
  commonFields,
  type GenerationOptions,
  HALF_PAIR,
  LIMITS,
  text,
  toGenerationOptions,
} from './request-fields.ts';

interface Fault {
  readonly path: (string | number)[];
  readonly message: string;
  readonly isUnsupported?: true;
}

/** A message's content: a string, or text parts, which are joined by line breaks. */
const content = z.unknown().transform((value, context) => {
  const parts = Array.isArray(value) ? value.map(readPart) : [readText(value, [])];
  const fault = parts.find((part) => typeof part !== 'string');
  if (fault === undefined) return parts.join('\n');
  const { path, message, isUnsupported } = fault;
  context.addIssue({ code: 'custom', path, message, params: { isUnsupported } });
  return z.NEVER;
});

function readPart(part: unknown, i: number): string | Fault {
  const parsed = z.looseObject({ type: z.string() }).safeParse(part);
  if (!parsed.success) return { path: [i], message: 'must be an object with a type' };
  const { type } = parsed.data;
  if (type === 'text') return readText(parsed.data.text, [i, 'text']);
  const message = `is of type ${JSON.stringify(type.slice(0, 40))}; only "text" is supported`;
  return { path: [i], message, isUnsupported: true };
}

function readText(value: unknown, path: Fault['path']): string | Fault {
  if (value === undefined) return { path, message: 'is missing' };
  if (typeof value !== 'string') {
    const isPart = path.length > 0;
    return { path, message: `must be a string${isPart ? '' : ' or an array of text parts'}` };
  }
  return value.isWellFormed() ? value : { path, message: HALF_PAIR };
}

const toolCallSchema = z.object({
  id: text,
  type: z.literal('function'),
  function: z.object({ name: text, arguments: text }),
});

const name = text.max(256).nullish();

const assistantFields = {
  role: z.literal('assistant'),
  content: content.nullish(),
  name,
  tool_calls: z.array(toolCallSchema).nullish(),
  function_call: z.null().optional(),
  audio: z.null().optional(),
};

/** As OpenAI has it: what says nothing and calls nothing is no message. */
const assistantSchema = z
  .looseObject(assistantFields)
  .refine((message) => message.content != null || (message.tool_calls ?? []).length > 0, {
    error: 'is missing',
    path: ['content'],
  });

const messageSchema = z.discriminatedUnion(
  'role',
  [
    z.looseObject({ role: z.enum(['system', 'developer', 'user']), content, name }),
    assistantSchema,
    z.looseObject({ role: z.literal('tool'), content, tool_call_id: text }),
  ],
  { error: 'must be one of "system", "developer", "user", "assistant", "tool"' },
);

/** What a message may have, whoever says it. */
const MESSAGE_FIELDS = new Set([...Object.keys(assistantFields), 'tool_call_id']);

/** One turn of a conversation, its parts joined. */
export interface ChatMessage {
  readonly role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  readonly name?: string;
  readonly toolCalls?: readonly z.infer<typeof toolCallSchema>[];
  readonly tool_call_id?: string;
}

export const chatFields = {
  ...commonFields,
  messages: z.array(messageSchema).min(1),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(LIMITS.maxTopLogprobs).optional(),
  prediction: z.object({ type: z.literal('content'), content }).optional(),
} as const;

export const chatSchema = z.object(chatFields);

export interface ChatRequest extends GenerationOptions {
  readonly endpoint: 'chat';
  readonly messages: readonly ChatMessage[];
  /** `null` for as many as the context allows. */
  readonly maxTokens: number | null;
  readonly topLogprobs: number | null;
  /** Text that the answer will probably repeat. */
  readonly prediction: string | null;
}

/** Names of fields of messages that nobody knows, as in `messages[0].mood`. */
export function ignoredInMessages({ messages }: z.infer<typeof chatSchema>): string[] {
  return messages.flatMap((message, i) =>
    Object.entries(message)
      .filter(([field, value]) => value !== null && !MESSAGE_FIELDS.has(field))
      .map(([field]) => `messages[${i}].${field}`),
  );
}

/** @throws {PlatformError} `invalid_request` when fields contradict each other */
export function toChatRequest(fields: z.infer<typeof chatSchema>): ChatRequest {
  if (fields.top_logprobs !== undefined && !fields.logprobs) {
    const message = `top_logprobs is ${fields.top_logprobs}; it needs logprobs to be true`;
    throw new PlatformError('invalid_request', message, { param: 'top_logprobs' });
  }
  return {
    ...toGenerationOptions(fields),
    endpoint: 'chat',
    messages: fields.messages.map(toChatMessage),
    maxTokens: toMaxTokens(fields),
    topLogprobs: fields.logprobs ? (fields.top_logprobs ?? 0) : null,
    prediction: fields.prediction?.content ?? null,
  };
}

function toMaxTokens(fields: z.infer<typeof chatSchema>): number | null {
  const { max_tokens: older, max_completion_tokens: newer } = fields;
  if (older !== undefined && newer !== undefined && older !== newer) {
    const message = `max_tokens is ${older} and max_completion_tokens is ${newer}; they must be equal`;
    throw new PlatformError('invalid_request', message, { param: 'max_completion_tokens' });
  }
  return newer ?? older ?? null;
}

function toChatMessage(message: z.infer<typeof messageSchema>): ChatMessage {
  const base = { role: message.role, content: message.content ?? '' };
  if (message.role === 'tool') return { ...base, tool_call_id: message.tool_call_id };
  const named = message.name == null ? base : { ...base, name: message.name };
  if (message.role !== 'assistant' || !message.tool_calls) return named;
  return { ...named, toolCalls: message.tool_calls };
}
