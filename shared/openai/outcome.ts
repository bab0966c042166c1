import { PlatformError } from '../errors.ts';
import type { LoggedEvent, RequestEvent } from '../protocol/event.ts';
import type { Job } from '../protocol/job.ts';
import { toUsage } from './chunks.ts';
import { collect, toErrorOptions } from './collect.ts';

/** What came of a request that has ended. */
export interface Outcome {
  /** Of the whole of it; `null` when it failed. */
  readonly usage: object | null;
  /** What a plain answer would have been, or what there was when it was cut short. */
  readonly result: object | null;
  /** Why it failed, or why its answer cannot be given. */
  readonly error: PlatformError | null;
}

/**
 * Reads a request's log to its end. What is left of an endless one whose log was cut is not given
 * for its answer: `error` is `events_trimmed` then, beside the usage.
 *
 * @throws {PlatformError} as `events` does; `worker_lost` when they stop before the last
 */
export async function toOutcome(events: AsyncIterable<LoggedEvent>, job: Job): Promise<Outcome> {
  const seen = new Seen(events);
  try {
    const result = await collect(seen, job);
    const usage = seen.last?.type === 'done' ? toUsage(seen.last.usage) : null;
    return seen.isWhole
      ? { usage, result, error: null }
      : { usage, result: null, error: trimmed(job) };
  } catch (error) {
    if (seen.last?.type !== 'error') throw error;
    const { code, message, param } = seen.last;
    const failure = new PlatformError(code, message, toErrorOptions(param));
    return { usage: null, result: null, error: failure };
  }
}

function trimmed({ id }: Job): PlatformError {
  const message = `the beginning of the answer is no longer kept; read its end at /v1/requests/${id}/events`;
  return new PlatformError('events_trimmed', message);
}

/** Passes events on, and notes the first and the last. */
class Seen implements AsyncIterable<LoggedEvent> {
  readonly #events: AsyncIterable<LoggedEvent>;
  isWhole = true;
  last: RequestEvent | null = null;

  constructor(events: AsyncIterable<LoggedEvent>) {
    this.#events = events;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<LoggedEvent> {
    for await (const logged of this.#events) {
      if (this.last === null) this.isWhole = logged.id.seq === 0;
      this.last = logged.event;
      yield logged;
    }
  }
}
