import type { ErrorCode, PlatformError } from '../errors.ts';

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
} as const satisfies Record<ErrorCode, number>;

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

export function statusOf(code: ErrorCode): (typeof STATUS)[ErrorCode] {
  return STATUS[code];
}

/** OpenAI's coarser names for kinds of failure. */
function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}
