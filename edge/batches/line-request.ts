import { hash } from 'node:crypto';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { type RequestId, toRequestId } from '../../shared/ids.ts';
import { type BatchEndpoint, MAX_LINE_BYTES } from '../../shared/protocol/batch.ts';
import {
  type GenerationRequest,
  parseChatRequest,
  parseCompletionRequest,
} from '../../shared/protocol/request.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import type { Line } from './lines.ts';

const MAX_CUSTOM_ID = 512;

const lineSchema = z.object({
  custom_id: z.string().min(1).max(MAX_CUSTOM_ID),
  method: z.string(),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

export interface LineRequest {
  readonly customId: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Why a line is none, in OpenAI's terms. */
export class LineError extends Error {
  readonly code: string;
  readonly param: string | null;

  constructor(code: string, message: string, param: string | null = null) {
    super(message);
    this.code = code;
    this.param = param;
  }
}

/** @throws {LineError} */
export function parseLine({ text }: Pick<Line, 'text'>, endpoint: BatchEndpoint): LineRequest {
  if (text === null) {
    throw new LineError(
      'line_too_long',
      `this line is longer; the limit is ${MAX_LINE_BYTES} bytes`,
    );
  }
  const { custom_id: customId, method, url, body } = parseShape(text);
  if (method !== 'POST') {
    const message = `method is ${quote(method)}; it must be "POST"`;
    throw new LineError('invalid_method', message, 'method');
  }
  if (url !== endpoint) {
    const message = `url is ${quote(url)}; it must be the batch's endpoint, ${quote(endpoint)}`;
    throw new LineError('mismatched_url', message, 'url');
  }
  return { customId, body };
}

function parseShape(text: string): z.infer<typeof lineSchema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new LineError('invalid_json_line', 'this line is not valid JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LineError('invalid_json_line', 'this line must be a JSON object');
  }
  try {
    return parseFields(lineSchema, value);
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    const isMissing = error.message.endsWith('is missing');
    const code = isMissing ? 'missing_required_parameter' : 'invalid_request';
    throw new LineError(code, error.message, error.param);
  }
}

/** @throws {PlatformError} as for a request of its own; `unsupported_parameter` for a stream */
export function parseBody({ body }: LineRequest, endpoint: BatchEndpoint): GenerationRequest {
  const parse = endpoint === '/v1/chat/completions' ? parseChatRequest : parseCompletionRequest;
  const { request } = parse(body);
  if (!request.stream) return request;
  const message = 'stream is true; in a batch nothing is streamed';
  throw new PlatformError('unsupported_parameter', message, { param: 'stream' });
}

/** Whoever submits the line, and however often: it is one request. */
export function requestIdOf(batchId: string, lineNumber: number): RequestId {
  return toRequestId(`req-${hash('sha256', `${batchId}:${lineNumber}`).slice(0, 32)}`);
}

/** The seed of a line that brings none: the same for whoever submits it. */
export function seedOf(id: RequestId): number {
  return Number.parseInt(id.slice(-8), 16);
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}
