import { z } from 'zod';
import { PlatformError } from '../errors.ts';
import {
  type GenerationRequest,
  type ParsedRequest,
  parseChatRequest,
  parseCompletionRequest,
} from './request.ts';
import { LIMITS } from './request-fields.ts';
import { parseFields } from './request-issues.ts';
import { siftBody } from './request-neutral.ts';
import type { Webhook } from './webhook.ts';
import { metadataSchema, webhookRequestSchema } from './webhook-request.ts';

const PARSERS = {
  '/v1/completions': parseCompletionRequest,
  '/v1/chat/completions': parseChatRequest,
} as const;

export const JOB_ENDPOINTS = ['/v1/chat/completions', '/v1/completions'] as const;

const jobFields = {
  endpoint: z.enum(JOB_ENDPOINTS),
  body: z.looseObject({}),
  webhook: webhookRequestSchema.optional(),
  metadata: metadataSchema.default({}),
  priority: z.int().min(1).max(2_097_151).optional(),
  expires_in: z.number().gt(0).max(LIMITS.maxTimeoutSeconds).optional(),
} as const;

const jobSchema = z.object(jobFields);

/** What is said around a request that nobody waits for. */
export interface Envelope {
  readonly webhook: Webhook | null;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ParsedJob extends ParsedRequest<GenerationRequest> {
  readonly envelope: Envelope;
  /** Where it says how long it is wanted, if it does. */
  readonly deadlineParam: string;
}

/**
 * Reads what `POST /v1/jobs` takes.
 *
 * @throws {PlatformError} `invalid_request` or `unsupported_parameter`, naming the field:
 *   `body.prompt`
 */
export function parseJobRequest(value: unknown): ParsedJob {
  const { fields, ignored } = siftBody(value, jobFields);
  const job = parseFields(jobSchema, fields);
  const parsed = withinBody(() => parseBody(job));
  const { webhook = null, metadata, priority, expires_in: expiresIn } = job;
  const request = {
    ...parsed.request,
    isBackground: true,
    priority: priority ?? parsed.request.priority,
    timeoutSeconds: expiresIn ?? parsed.request.timeoutSeconds,
  };
  const ignoredInBody = parsed.ignored.map((name) => `body.${name}`);
  return {
    request,
    ignored: [...ignored, ...ignoredInBody],
    envelope: { webhook, metadata },
    deadlineParam: expiresIn === undefined ? 'body.timeout' : 'expires_in',
  };
}

function parseBody({ endpoint, body, ...job }: z.infer<typeof jobSchema>) {
  for (const name of ['background', 'webhook'] as const) {
    if (body[name] != null && body[name] !== false) refuse(name, 'belongs beside body');
  }
  if (body.stream === true) {
    refuse('stream', 'is true; a job has no stream: read /v1/requests/{id}/events');
  }
  if (body.timeout != null && job.expires_in !== undefined) {
    refuse('timeout', 'and expires_in say the same; leave one out');
  }
  if (body.priority != null && job.priority !== undefined) {
    refuse('priority', 'is given beside body as well; leave one out');
  }
  return PARSERS[endpoint](body);
}

function refuse(param: string, reason: string): never {
  throw new PlatformError('invalid_request', `${param} ${reason}`, { param });
}

/** Runs what checks a job's body; fields that it names are named as the client wrote them. */
export function withinBody<Value>(check: () => Value): Value {
  try {
    return check();
  } catch (error) {
    throw toBodyError(error);
  }
}

export function toBodyError(error: unknown): unknown {
  if (!(error instanceof PlatformError) || error.param === null) return error;
  const { message } = error;
  const isNamed = message.startsWith(error.param) && error.param !== '';
  return renamed(error, `body.${error.param}`, isNamed ? `body.${message}` : message);
}

/** @param param where the job says how long it is wanted */
export function toDeadlineError(error: unknown, param: string): unknown {
  const isOfDeadline = error instanceof PlatformError && error.code === 'deadline_exceeded';
  return isOfDeadline ? renamed(error, param, error.message) : error;
}

function renamed(error: PlatformError, param: string, message: string): PlatformError {
  const { code, retryAfterSeconds } = error;
  const retry = retryAfterSeconds === null ? {} : { retryAfterSeconds };
  return new PlatformError(code, message, { param, cause: error, ...retry });
}
