import type { RequestId } from '../../shared/ids.ts';

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Requests that gave their place away and wait in the queue again. While no worker has them, the
 * one that had them last ends those whose time is over or whose client is gone.
 */
export class YieldedRequests implements Disposable {
  readonly #end: (id: RequestId) => void;
  readonly #timerById = new Map<RequestId, NodeJS.Timeout | null>();

  /** @param end is told at most once of each that was added */
  constructor(end: (id: RequestId) => void) {
    this.#end = end;
  }

  get ids(): RequestId[] {
    return [...this.#timerById.keys()];
  }

  add(id: RequestId, deadlineMs: number | null): void {
    this.remove(id);
    if (deadlineMs === null) {
      this.#timerById.set(id, null);
      return;
    }
    const restMs = Math.min(Math.max(deadlineMs - Date.now(), 0), MAX_TIMER_MS);
    this.#timerById.set(
      id,
      setTimeout(() => this.end(id), restMs),
    );
  }

  /** Ends a request if it still waits, as far as is known here. */
  end(id: RequestId): void {
    if (this.remove(id)) this.#end(id);
  }

  /** @returns whether it was here */
  remove(id: RequestId): boolean {
    clearTimeout(this.#timerById.get(id) ?? undefined);
    return this.#timerById.delete(id);
  }

  [Symbol.dispose](): void {
    for (const id of this.ids) this.remove(id);
  }
}
