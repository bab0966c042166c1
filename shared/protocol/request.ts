import type { z } from 'zod';
import { PlatformError } from '../errors.ts';
import {
  type ChatRequest,
  chatFields,
  chatSchema,
  ignoredInMessages,
  toChatRequest,
} from './request-chat.ts';
import {
  type CompletionRequest,
  completionFields,
  completionSchema,
  toCompletionRequest,
} from './request-completions.ts';
import { parseFields } from './request-issues.ts';
import { siftBody } from './request-neutral.ts';

export type GenerationRequest = CompletionRequest | ChatRequest;

export interface ParsedRequest<Request extends GenerationRequest> {
  readonly request: Request;
  /** Names of fields that nobody knows; they had no effect. */
  readonly ignored: readonly string[];
}

/** @throws {PlatformError} `invalid_request` or `unsupported_parameter`, naming the field */
export function parseCompletionRequest(body: unknown): ParsedRequest<CompletionRequest> {
  const { fields, ignored } = siftBody(body, completionFields);
  const parsed = parseFields(completionSchema, fields);
  checkCommon(parsed);
  return { request: toCompletionRequest(parsed), ignored };
}

/** @throws {PlatformError} `invalid_request` or `unsupported_parameter`, naming the field */
export function parseChatRequest(body: unknown): ParsedRequest<ChatRequest> {
  const { fields, ignored } = siftBody(body, chatFields);
  const parsed = parseFields(chatSchema, fields);
  checkCommon(parsed);
  return { request: toChatRequest(parsed), ignored: [...ignored, ...ignoredInMessages(parsed)] };
}

type Common = Pick<
  z.infer<typeof completionSchema>,
  | 'stream'
  | 'stream_options'
  | 'background'
  | 'webhook'
  | 'context_policy'
  | 'sink_tokens'
  | 'window_tokens'
>;

/** Relations between fields that the two endpoints share. */
function checkCommon(fields: Common): void {
  if (fields.stream_options !== undefined && !fields.stream) {
    const message = 'stream_options is only allowed with stream';
    throw new PlatformError('invalid_request', message, { param: 'stream_options' });
  }
  if (fields.stream_options?.include_obfuscation) {
    const param = 'stream_options.include_obfuscation';
    throw new PlatformError('unsupported_parameter', `${param} is not supported`, { param });
  }
  checkBackground(fields);
  if (fields.context_policy === 'sinks') return;
  for (const param of ['sink_tokens', 'window_tokens'] as const) {
    if (fields[param] === undefined) continue;
    const message = `${param} is ${fields[param]}; it needs context_policy to be "sinks"`;
    throw new PlatformError('invalid_request', message, { param });
  }
}

function checkBackground({ background, stream, webhook }: Common): void {
  if (background && stream) {
    const message = 'stream is true; with background there is none: read /v1/requests/{id}/events';
    throw new PlatformError('invalid_request', message, { param: 'stream' });
  }
  if (webhook !== undefined && !background) {
    const message = 'webhook is given; it needs background to be true';
    throw new PlatformError('invalid_request', message, { param: 'webhook' });
  }
}
