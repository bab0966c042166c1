import { PlatformError } from '../../shared/errors.ts';
import type { RedisClient } from './redis-connection.ts';

/** A connection that was lost for no longer than this delays a call, and does not fail it. */
const BACK_WITHIN_MS = 1000;
const MAX_TRIES = 3;
/** How Redis says that it may do it later: it starts, fails over, is busy or full. */
const NOT_NOW =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOREPLICAS|MISCONF|OOM)\b/;

/** Calls on one connection, all of which may be sent again. */
export class Reach {
  /** When the connection was lost; `null` while it is there. */
  #lostMs: number | null = null;
  #back = Promise.withResolvers<void>();

  constructor(client: RedisClient) {
    client.on('close', () => {
      this.#lostMs ??= Date.now();
    });
    client.on('ready', () => {
      this.#lostMs = null;
      this.#back.resolve();
      this.#back = Promise.withResolvers();
    });
  }

  /**
   * @throws {PlatformError} `unavailable` when Redis does not do it now: at once if it has been
   *   away for long
   * @throws {Error} what Redis answers when it never will
   */
  async call<T>(call: () => Promise<T>): Promise<T> {
    for (let numTries = 1; ; numTries += 1) {
      try {
        return await call();
      } catch (error) {
        if (error instanceof PlatformError || isFault(error)) throw error;
        if (numTries === MAX_TRIES || !(await this.#isBackSoon())) {
          throw unavailable('the queue cannot be reached', error);
        }
      }
    }
  }

  async #isBackSoon(): Promise<boolean> {
    if (this.#lostMs === null) return false;
    const restMs = this.#lostMs + BACK_WITHIN_MS - Date.now();
    if (restMs <= 0) return false;
    const back = this.#back.promise.then(() => true);
    return resultWithin(restMs, back, false);
  }
}

/**
 * Whether Redis was reached, and refuses what it was asked for good: it was asked wrongly, or holds
 * what it should not. That is a bug; to call it an outage would hide it.
 */
function isFault(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError' && !NOT_NOW.test(error.message);
}

export function unavailable(reason: string, cause?: unknown): PlatformError {
  return new PlatformError('unavailable', `${reason}; try again`, { cause, retryAfterSeconds: 1 });
}

/** What `promise` gives, or `otherwise` after `ms`. */
export async function resultWithin<T>(ms: number, promise: Promise<T>, otherwise: T): Promise<T> {
  const late = Promise.withResolvers<T>();
  const timer = setTimeout(() => late.resolve(otherwise), ms);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
