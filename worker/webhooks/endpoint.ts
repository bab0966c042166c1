export interface EndpointOptions {
  /** Deliveries to one endpoint at a time. */
  readonly maxConcurrent: number;
  /** Failures in a row that open its breaker. */
  readonly maxFailures: number;
  /** How long a breaker stays open at first; twice as long after each probe that failed. */
  readonly openMs: number;
  readonly maxOpenMs: number;
}

export type Entry =
  | { readonly type: 'entered'; readonly isProbe: boolean }
  /** Worth asking again after `afterMs`. */
  | { readonly type: 'busy' | 'open'; readonly afterMs: number };

export interface Visit {
  readonly isProbe: boolean;
  /** Whether there was an answer that says more than that something is broken. */
  readonly isAlive: boolean;
  readonly durationMs: number;
}

/** A delivery that has not been timed yet is taken for so long. */
const GUESSED_DURATION_MS = 200;
const MAX_BUSY_MS = 60_000;

/**
 * One receiver as this process knows it: how many deliveries are on their way to it, and its
 * circuit breaker.
 *
 * - closed: deliveries go out, until `maxFailures` in a row have failed;
 * - open: none does, until its time is over;
 * - half open: one goes out as a probe. Its success closes the breaker, its failure opens it for
 *   longer.
 */
export class Endpoint {
  readonly #options: EndpointOptions;
  readonly #now: () => number;
  #numRunning = 0;
  #numFailures = 0;
  #openMs = 0;
  #openUntilMs: number | null = null;
  #isProbing = false;
  #meanDurationMs = GUESSED_DURATION_MS;
  #nextTurnMs = 0;

  constructor(options: EndpointOptions, now: () => number) {
    this.#options = options;
    this.#now = now;
  }

  get state(): 'closed' | 'open' | 'half-open' {
    if (this.#openUntilMs === null) return 'closed';
    return this.#now() < this.#openUntilMs ? 'open' : 'half-open';
  }

  get isIdle(): boolean {
    return this.#numRunning === 0 && this.#numFailures === 0 && this.#nextTurnMs < this.#now();
  }

  /**
   * @param numFree places that are left for the deliveries of all endpoints; none may take more
   *   than a quarter
   */
  enter(numFree: number): Entry {
    if (this.state === 'open') return { type: 'open', afterMs: this.#openUntilMs! - this.#now() };
    if (this.state === 'half-open') {
      if (this.#isProbing) return { type: 'open', afterMs: this.#options.openMs };
      this.#isProbing = true;
      this.#numRunning += 1;
      return { type: 'entered', isProbe: true };
    }
    const share = Math.max(1, Math.floor(numFree / 4));
    if (this.#numRunning >= Math.min(this.#options.maxConcurrent, share)) return this.#wait();
    this.#numRunning += 1;
    return { type: 'entered', isProbe: false };
  }

  /** Ends what `enter` began. */
  leave({ isProbe, isAlive, durationMs }: Visit): void {
    this.#numRunning -= 1;
    this.#meanDurationMs += (durationMs - this.#meanDurationMs) / 8;
    if (isProbe) this.#isProbing = false;
    if (isAlive) {
      this.#numFailures = 0;
      this.#openUntilMs = null;
      return;
    }
    this.#numFailures += 1;
    if (isProbe) this.#open(Math.min(2 * this.#openMs, this.#options.maxOpenMs));
    else if (this.state === 'closed' && this.#numFailures >= this.#options.maxFailures) {
      this.#open(this.#options.openMs);
    }
  }

  #open(ms: number): void {
    this.#openMs = ms;
    this.#openUntilMs = this.#now() + ms;
  }

  /** Those that wait come back one after the other, as fast as the endpoint takes them. */
  #wait(): Entry {
    const nowMs = this.#now();
    const turnMs = this.#meanDurationMs / this.#options.maxConcurrent;
    this.#nextTurnMs = Math.min(Math.max(this.#nextTurnMs, nowMs) + turnMs, nowMs + MAX_BUSY_MS);
    return { type: 'busy', afterMs: Math.ceil(this.#nextTurnMs - nowMs) };
  }
}

/** The endpoints of this process, forgotten again once there is nothing to know of them. */
export class Endpoints {
  readonly #options: EndpointOptions;
  readonly #now: () => number;
  readonly #endpointByName = new Map<string, Endpoint>();

  constructor(options: EndpointOptions, now: () => number) {
    this.#options = options;
    this.#now = now;
  }

  get numOpen(): number {
    return [...this.#endpointByName.values()].filter(({ state }) => state !== 'closed').length;
  }

  /** The one at `url` for this tenant, whatever its query. */
  of(tenant: string, url: string): Endpoint {
    const { origin, pathname } = new URL(url);
    const name = `${tenant} ${origin}${pathname}`;
    const known = this.#endpointByName.get(name);
    if (known !== undefined) return known;
    this.#forgetIdle();
    const endpoint = new Endpoint(this.#options, this.#now);
    this.#endpointByName.set(name, endpoint);
    return endpoint;
  }

  #forgetIdle(): void {
    for (const [name, endpoint] of this.#endpointByName) {
      if (endpoint.isIdle) this.#endpointByName.delete(name);
    }
  }
}
