/** What a wait gives when time ran out first. */
export const IDLE = Symbol('idle');

/**
 * Bounds waits, one after the other, each to `idleMs`. One timer serves them all: when it goes off
 * it looks how long the present wait has lasted. With a timer for each, a stream would make and
 * drop one with every token.
 */
export class IdleClock {
  readonly #idleMs: number;
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** Of the latest wait; it may be over. */
  #startMs = 0;
  #giveUp: () => void = () => undefined;

  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  /** Waits for a promise, but no longer than `idleMs`; the promise stays good for another wait. */
  orIdle<Value>(promise: Promise<Value>): Promise<Value | typeof IDLE> {
    return new Promise((resolve, reject) => {
      this.#startMs = performance.now();
      this.#giveUp = () => resolve(IDLE);
      this.#timer ??= setTimeout(this.#look, this.#idleMs);
      promise.then(resolve, reject);
    });
  }

  /** To be called when no wait follows, so that no timer is left. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  readonly #look = (): void => {
    const restMs = this.#startMs + this.#idleMs - performance.now();
    this.#timer = restMs > 0 ? setTimeout(this.#look, restMs) : null;
    if (restMs <= 0) this.#giveUp();
  };
}
