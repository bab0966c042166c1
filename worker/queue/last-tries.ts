import { once } from 'node:events';

/**
 * After this long without progress or an end the next request may be tried all the same: this one
 * may have lost its row.
 */
const MAX_TRY_MS = 10_000;

/**
 * A line of requests of which one more claim that leads nowhere would be the last. They are tried
 * one at a time, so that the death of a worker is held against one of them only: the claims of the
 * others are not entered yet.
 */
export class LastTries {
  readonly #maxTryMs: number;
  #lastOver: Promise<void> = Promise.resolve();

  constructor(maxTryMs: number = MAX_TRY_MS) {
    this.#maxTryMs = maxTryMs;
  }

  /**
   * Resolves when it is this one's turn, or at once when the signal aborts: then it is not to be
   * tried at all.
   *
   * @returns ends the turn; may be called again
   */
  async begin(signal: AbortSignal): Promise<() => void> {
    const before = this.#lastOver;
    const { promise, resolve: end } = Promise.withResolvers<void>();
    this.#lastOver = promise;
    if (!signal.aborted) await Promise.race([before, once(signal, 'abort')]);
    if (signal.aborted) {
      void before.then(end);
      return () => undefined;
    }
    const timer = setTimeout(end, this.#maxTryMs);
    return () => {
      clearTimeout(timer);
      end();
    };
  }
}
