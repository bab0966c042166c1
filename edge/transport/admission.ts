import { PlatformError } from '../../shared/errors.ts';
import type { Job } from '../../shared/protocol/job.ts';

/** The queue that a request would join. */
export interface QueueLoad {
  /** Requests that wait for a worker. */
  readonly numQueued: number;
  /** Those, and of the ones under way so many, that have to end before the new one begins. */
  readonly numAhead: number;
  /** Requests that its workers finish; 0 when nothing is measured yet. */
  readonly ratePerSecond: number;
}

/** Requests that wait in one queue, unless configured. */
export const DEFAULT_MAX_QUEUED = 1024;

/**
 * Why a new request is not to be queued: there is no room, or those before it take longer than its
 * client would wait. Without a measured rate nobody knows, and it may try. How long it will itself
 * take nobody knows either: it may end with its first token, and at its deadline ends with what
 * there is.
 *
 * @returns `rate_limit_exceeded` or `deadline_exceeded`, with the time in which that is likely to
 *   change; `null` to admit it
 */
export function refusalOf(
  { createdMs, deadlineMs }: Pick<Job, 'createdMs' | 'deadlineMs'>,
  { numQueued, numAhead, ratePerSecond }: QueueLoad,
  maxQueued: number,
): PlatformError | null {
  const isMeasured = ratePerSecond > 0;
  if (numQueued >= maxQueued) {
    const numTooMany = numQueued - maxQueued + 1;
    const options = isMeasured ? retryIn(numTooMany / ratePerSecond) : {};
    return new PlatformError(
      'rate_limit_exceeded',
      `${numQueued} requests are waiting already`,
      options,
    );
  }
  if (deadlineMs === null || !isMeasured) return null;
  const waitSeconds = numAhead / ratePerSecond;
  const leftSeconds = (deadlineMs - createdMs) / 1000;
  if (waitSeconds <= leftSeconds) return null;
  const message = `about ${Math.ceil(waitSeconds)} s would pass before this request begins; it may wait for ${leftSeconds} s`;
  return new PlatformError('deadline_exceeded', message, {
    param: 'timeout',
    ...retryIn(waitSeconds - leftSeconds),
  });
}

function retryIn(seconds: number): { readonly retryAfterSeconds: number } {
  return { retryAfterSeconds: Math.max(1, Math.ceil(seconds)) };
}
