import type { Context } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { type ErrorCode, PlatformError } from '../shared/errors.ts';
import type { AppEnv } from './app.ts';

/**
 * The one place where a failure becomes an HTTP status. A new code does not compile without one.
 */
const STATUS = {
  invalid_request: 400,
  unsupported_parameter: 400,
  context_length_exceeded: 400,
  invalid_api_key: 401,
  model_not_found: 404,
  not_found: 404,
  conflict: 409,
  events_trimmed: 410,
  payload_too_large: 413,
  unsupported_media_type: 415,
  idempotency_mismatch: 422,
  rate_limit_exceeded: 429,
  overloaded: 503,
  no_worker: 503,
  unavailable: 503,
  deadline_exceeded: 429,
  worker_lost: 503,
  protocol_mismatch: 502,
  internal: 500,
} as const satisfies Record<ErrorCode, ContentfulStatusCode>;

/** When nothing better is known: about the time in which a worker or Redis comes back. */
const DEFAULT_RETRY_AFTER_SECONDS = 2;

/** OpenAI's error body. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

export function toErrorBody({ code, message, param }: PlatformError): ErrorBody {
  return { error: { message, type: typeOf(STATUS[code]), param, code } };
}

export function statusOf(code: ErrorCode): ContentfulStatusCode {
  return STATUS[code];
}

/** OpenAI's coarser names for kinds of failure. */
function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}

/** What is not a `PlatformError` is a bug: logged in full, told to the client as `internal`. */
export function toPlatformError(error: unknown, c: Context<AppEnv>): PlatformError {
  if (error instanceof PlatformError) {
    if (STATUS[error.code] >= 500) {
      const { code, message } = error;
      c.var.log('request_failed', { id: c.var.requestId, code, message, cause: error.cause });
    }
    return error;
  }
  c.var.log('request_crashed', { id: c.var.requestId, cause: error });
  return new PlatformError('internal', 'internal error', { cause: error });
}

export function toErrorResponse(thrown: unknown, c: Context<AppEnv>): Response {
  const error = toPlatformError(thrown, c);
  if (error.isRetryable) {
    c.header('retry-after', String(error.retryAfterSeconds ?? DEFAULT_RETRY_AFTER_SECONDS));
  }
  if (error.code === 'invalid_api_key') c.header('www-authenticate', 'Bearer');
  return c.json(toErrorBody(error), STATUS[error.code]);
}

export function toNotFound(c: Context<AppEnv>): Response {
  const route = `${c.req.method} ${c.req.path.slice(0, 200)}`;
  return toErrorResponse(new PlatformError('not_found', `no such route: ${route}`), c);
}

/** For the methods that a path does not know. @param allowed as in the `Allow` header */
export function methodNotAllowed(allowed: string) {
  return (c: Context<AppEnv>): Response => {
    c.header('allow', allowed);
    const message = `${c.req.method} is not allowed here; use ${allowed}`;
    const type = 'invalid_request_error';
    return c.json({ error: { message, type, param: null, code: 'method_not_allowed' } }, 405);
  };
}
