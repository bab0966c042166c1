/** However long a receiver asks us to wait. */
const MAX_RETRY_AFTER_MS = 24 * 3_600_000;
/**
 * Share of a delay by which it is shorter or longer, so that what failed together does not come
 * back together.
 */
const JITTER = 0.2;

export interface RetryOptions {
  /**
   * Delay after the first failure, after the second ...; one attempt more than there are delays.
   */
  readonly scheduleMs: readonly number[];
  /** [0, 1) */
  readonly rng: () => number;
}

/**
 * How long to wait after the `numFailures`-th failure: as the schedule says, longer where the
 * receiver asked for it, and never less than that.
 *
 * @returns `null` when the schedule is exhausted
 */
export function waitAfterFailureMs(
  numFailures: number,
  retryAfterMs: number | null,
  { scheduleMs, rng }: RetryOptions,
): number | null {
  const delayMs = scheduleMs[numFailures - 1];
  if (delayMs === undefined) return null;
  const plannedMs = delayMs * (1 + JITTER * (2 * rng() - 1));
  const askedMs = Math.min(retryAfterMs ?? 0, MAX_RETRY_AFTER_MS) * (1 + JITTER * rng());
  return Math.round(Math.max(plannedMs, askedMs));
}

/**
 * @returns what a `Retry-After` header asks for, in seconds or as a date; `null` when it asks for
 *   nothing
 */
export function parseRetryAfter(header: string | null, nowMs: number): number | null {
  if (header === null) return null;
  if (/^\s*\d{1,9}\s*$/.test(header)) return Number(header) * 1000;
  const atMs = Date.parse(header);
  return Number.isNaN(atMs) || !/[a-z]/i.test(header) ? null : Math.max(0, atMs - nowMs);
}
