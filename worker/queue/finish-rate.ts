/** Finishes that are remembered in any case, and for how long the others are. */
const MIN_FINISHES = 16;
const MAX_AGE_MS = 30_000;

interface Finish {
  readonly endMs: number;
  readonly runMs: number;
}

/**
 * How many requests a worker can finish in a second: as many as it takes at a time, by the time
 * that the last ones took. Unlike a count of what was finished, it does not fall when there is
 * nothing to do.
 */
export class FinishRate {
  readonly #maxRunning: number;
  readonly #now: () => number;
  #finishes: Finish[] = [];

  /** @param maxRunning requests at a time */
  constructor(maxRunning: number, now: () => number) {
    this.#maxRunning = maxRunning;
    this.#now = now;
  }

  /**
   * Begins to time a request. @returns to be called when it is finished, and not when it is given
   * back
   */
  start(): () => void {
    const startMs = this.#now();
    return () => {
      const endMs = this.#now();
      this.#finishes.push({ endMs, runMs: endMs - startMs });
      this.#forget();
    };
  }

  /** 0 as long as nothing is measured. */
  get perSecond(): number {
    this.#forget();
    const totalMs = this.#finishes.reduce((sum, { runMs }) => sum + runMs, 0);
    return totalMs === 0 ? 0 : (1000 * this.#maxRunning * this.#finishes.length) / totalMs;
  }

  #forget(): void {
    const sinceMs = this.#now() - MAX_AGE_MS;
    const numSpare = Math.max(0, this.#finishes.length - MIN_FINISHES);
    const numFresh = this.#finishes.findIndex(({ endMs }) => endMs >= sinceMs);
    const numOld = numFresh === -1 ? this.#finishes.length : numFresh;
    this.#finishes.splice(0, Math.min(numSpare, numOld));
  }
}
