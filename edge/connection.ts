import type { Context } from 'hono';
import { getRuntimeKey } from 'hono/adapter';
import type { AppEnv } from './app.ts';

/**
 * One client's wait for one request. It is open until either `finish` (the client has all) or
 * `leave` (the client went away); what comes second has no effect.
 */
export class Connection {
  readonly #reading = new AbortController();
  readonly #requestSignal: AbortSignal;
  readonly #onLeave: () => void;
  #isOpen = true;

  /** @param requestSignal aborts when the client goes away, on platforms that notice it so */
  constructor(requestSignal: AbortSignal, onLeave: () => void) {
    this.#requestSignal = requestSignal;
    this.#onLeave = onLeave;
    requestSignal.addEventListener('abort', this.leave);
    if (requestSignal.aborted) this.leave();
  }

  /** Aborts when nobody reads any longer. */
  get signal(): AbortSignal {
    return this.#reading.signal;
  }

  readonly finish = (): void => {
    this.#close();
  };

  readonly leave = (): void => {
    if (this.#close()) this.#onLeave();
  };

  /** @returns whether it was open */
  #close(): boolean {
    const wasOpen = this.#isOpen;
    this.#isOpen = false;
    this.#requestSignal.removeEventListener('abort', this.leave);
    this.#reading.abort();
    return wasOpen;
  }
}

/** Lets work go on after the response; a failure is logged, since nobody is left to be told. */
export function detach(c: Context<AppEnv>, work: Promise<unknown>): void {
  const { log, options, requestId: id } = c.var;
  const settled = work.catch((cause: unknown) => log('detached_work_failed', { id, cause }));
  if (getRuntimeKey() === 'workerd') c.executionCtx.waitUntil(settled);
  else options.onDetached(settled);
}
