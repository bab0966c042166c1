import type { RequestId } from '../../shared/ids.ts';
import { mergeEvents } from '../../shared/protocol/event-merge.ts';
import { type GenerationEvent, isLast } from '../../shared/protocol/generation.ts';
import type { Update } from '../engine/engine.ts';

/** Steps that follow each other faster than this are told together. */
const MIN_INTERVAL_MS = 5;
/** No more than this between two tellings: twenty a second look fluent. */
const MAX_INTERVAL_MS = 50;
/** Each message costs the same, so more streams share it less often. */
const INTERVAL_MS_PER_STREAM = 1;

function isUrgent(event: GenerationEvent): boolean {
  return event.type === 'due' || isLast(event);
}

/**
 * Updates on their way to the main thread. A request's first and last news leave at once; those
 * between wait for each other, since a message for every token of every stream would cost more than
 * the token.
 */
export class Outbox {
  readonly #send: (updates: readonly Update[]) => void;
  readonly #waitingById = new Map<RequestId, GenerationEvent[]>();
  readonly #begun = new Set<RequestId>();
  #sentMs = -Infinity;

  constructor(send: (updates: readonly Update[]) => void) {
    this.#send = send;
  }

  /** Takes news in, and sends what is due: all, or only what nothing should wait for. */
  add(updates: readonly Update[], nowMs: number): void {
    const urgent: RequestId[] = [];
    for (const { id, events } of updates) {
      const waiting = this.#waitingById.get(id) ?? [];
      mergeEvents(waiting, events);
      this.#waitingById.set(id, waiting);
      if (!this.#begun.has(id) || events.some(isUrgent)) urgent.push(id);
      this.#begun.add(id);
    }
    const numStreams = this.#begun.size;
    const intervalMs = Math.min(
      MAX_INTERVAL_MS,
      Math.max(MIN_INTERVAL_MS, numStreams * INTERVAL_MS_PER_STREAM),
    );
    if (nowMs - this.#sentMs >= intervalMs) this.flush(nowMs);
    else this.#tell(urgent);
  }

  flush(nowMs: number): void {
    if (this.#waitingById.size === 0) return;
    this.#sentMs = nowMs;
    this.#tell([...this.#waitingById.keys()]);
  }

  #tell(ids: readonly RequestId[]): void {
    if (ids.length === 0) return;
    const updates: Update[] = [];
    for (const id of ids) {
      const events = this.#waitingById.get(id) ?? [];
      this.#waitingById.delete(id);
      if (events.some(isLast)) this.#begun.delete(id);
      updates.push({ id, events });
    }
    this.#send(updates);
  }

  /** Tells what waits of a request that is released, before its release is told. */
  forget(id: RequestId, nowMs: number): void {
    this.flush(nowMs);
    this.#begun.delete(id);
  }
}
