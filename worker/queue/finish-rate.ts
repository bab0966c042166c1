/** Finishes that are remembered in any case, and for how long the others are. */
const MIN_FINISHES = 16;
const MAX_AGE_MS = 30_000;

interface Finish {
  readonly endMs: number;
  readonly runMs: number;
  /** At its end, itself included. */
  readonly numRunning: number;
}

/**
 * How many requests a worker can finish in a second: as many as it takes at a time, by the time
 * that the last ones took. Unlike a count of what was finished, it does not fall when there is
 * nothing to do.
 *
 * A request takes longer the more run beside it, so those count that ran beside most others. Before
 * all rows were taken once, the rate is what they would finish if they were as fast as the few.
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
   * Begins to time a request. @returns to be called with the number that run when it is finished,
   * and not when it is given back
   */
  start(): (numRunning: number) => void {
    const startMs = this.#now();
    return (numRunning) => {
      const endMs = this.#now();
      this.#finishes.push({ endMs, runMs: endMs - startMs, numRunning });
      this.#forget();
    };
  }

  /** 0 as long as nothing is measured. */
  get perSecond(): number {
    this.#forget();
    const most = Math.max(0, ...this.#finishes.map(({ numRunning }) => numRunning));
    const telling = this.#finishes.filter(({ numRunning }) => 2 * numRunning > most);
    const totalMs = telling.reduce((sum, { runMs }) => sum + runMs, 0);
    return totalMs === 0 ? 0 : (1000 * this.#maxRunning * telling.length) / totalMs;
  }

  #forget(): void {
    const sinceMs = this.#now() - MAX_AGE_MS;
    const numSpare = Math.max(0, this.#finishes.length - MIN_FINISHES);
    const numFresh = this.#finishes.findIndex(({ endMs }) => endMs >= sinceMs);
    const numOld = numFresh === -1 ? this.#finishes.length : numFresh;
    this.#finishes.splice(0, Math.min(numSpare, numOld));
  }
}
