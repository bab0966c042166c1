import { atDeadline } from '../../shared/deadline.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { CancelReason } from '../../shared/protocol/request-scripts.ts';

/** A request that waits in the queue again. */
export interface YieldedRequest {
  readonly id: RequestId;
  /** `null` for none. */
  readonly deadlineMs: number | null;
  /** Ends it, if no worker has it. */
  readonly end: (reason: CancelReason) => void;
}

interface Watched {
  readonly request: YieldedRequest;
  readonly callOff: () => void;
}

/**
 * Requests that gave their place away and wait in the queue again. While no worker has them, the
 * one that had them last ends those whose time is over or whose client is gone.
 */
export class YieldedRequests implements Disposable {
  readonly #watchedById = new Map<RequestId, Watched>();

  get ids(): RequestId[] {
    return [...this.#watchedById.keys()];
  }

  /** @param request is ended at most once */
  add(request: YieldedRequest): void {
    const { id, deadlineMs } = request;
    this.remove(id);
    const callOff = atDeadline(deadlineMs, () => this.end(id, 'deadline'));
    this.#watchedById.set(id, { request, callOff });
  }

  /** Ends a request if it still waits, as far as is known here. */
  end(id: RequestId, reason: CancelReason): void {
    const watched = this.#watchedById.get(id);
    this.remove(id);
    watched?.request.end(reason);
  }

  remove(id: RequestId): void {
    this.#watchedById.get(id)?.callOff();
    this.#watchedById.delete(id);
  }

  [Symbol.dispose](): void {
    for (const id of this.ids) this.remove(id);
  }
}
