import type { Context } from 'hono';
import { PlatformError } from '../shared/errors.ts';
import { statusOf, toErrorBody } from '../shared/openai/error-body.ts';
import type { AppEnv } from './app.ts';

/** When nothing better is known: about the time in which a worker or Redis comes back. */
const DEFAULT_RETRY_AFTER_SECONDS = 2;

/** What is not a `PlatformError` is a bug: logged in full, told to the client as `internal`. */
export function toPlatformError(error: unknown, c: Context<AppEnv>): PlatformError {
  if (error instanceof PlatformError) {
    if (statusOf(error.code) >= 500) {
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
  return c.json(toErrorBody(error), statusOf(error.code));
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
