export const ERROR_CODES = [
  'invalid_request',
  'unsupported_parameter',
  'context_length_exceeded',
  'invalid_api_key',
  'model_not_found',
  'not_found',
  'conflict',
  'events_trimmed',
  'payload_too_large',
  'unsupported_media_type',
  'idempotency_mismatch',
  'rate_limit_exceeded',
  'overloaded',
  'no_worker',
  'unavailable',
  'deadline_exceeded',
  'worker_lost',
  'protocol_mismatch',
  'internal',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Worth sending again, unchanged, after a pause. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set([
  'rate_limit_exceeded',
  'deadline_exceeded',
  'overloaded',
  'no_worker',
  'unavailable',
  'worker_lost',
]);

export interface PlatformErrorOptions extends ErrorOptions {
  /** The request field that is wrong, as a path: `stop[1]`. */
  readonly param?: string;
  /** When a retry is likely to succeed. */
  readonly retryAfterSeconds?: number;
}

/**
 * A failure with a name the client may see. `cause` is for our logs and never leaves the process.
 */
export class PlatformError extends Error {
  override readonly name = 'PlatformError';
  readonly code: ErrorCode;
  readonly param: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(code: ErrorCode, message: string, options: PlatformErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
  }

  get isRetryable(): boolean {
    return RETRYABLE.has(this.code);
  }
}
