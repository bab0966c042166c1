export interface EndpointOptions {
  /** Deliveries to one endpoint at a time. */
  readonly maxConcurrent: number;
  /** Failures in a row that open its breaker. */
  readonly maxFailures: number;
  /** How long a breaker stays open at first; twice as long after each probe that failed. */
  readonly openMs: number;
  readonly maxOpenMs: number;
}

/** What became of a delivery that was let in. */
export interface Visit {
  /** Whether there was an answer that says more than that something is broken. */
  readonly isAlive: boolean;
  readonly durationMs: number;
}

export type Entry =
  /** Until `leave` is called, once. */
  | { readonly type: 'entered'; readonly leave: (visit: Visit) => void }
  /** Worth asking again after `afterMs`. */
  | { readonly type: 'busy' | 'open'; readonly afterMs: number };

/** Where a delivery goes. */
export interface Receiver {
  readonly tenant: string;
  readonly url: string;
}

/**
 * As long as none was timed; few milliseconds, for those that wait for a quick endpoint would come
 * back late, and those of a slow one only once more.
 */
const GUESSED_DURATION_MS = 20;
/** Deliveries whose mean duration is known, about. */
const NUM_TIMED = 8;
/** Of the time in which a place is likely to be left: rather a wait in vain than an empty place. */
const HASTE = 0.8;
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
  #numTimed = 0;
  #nextTurnMs = 0;

  constructor(options: EndpointOptions, now: () => number) {
    this.#options = options;
    this.#now = now;
  }

  get state(): 'closed' | 'open' | 'half-open' {
    if (this.#openUntilMs === null) return 'closed';
    return this.#now() < this.#openUntilMs ? 'open' : 'half-open';
  }

  /** @param maxRunning places that it may have at most, of those that are left for all */
  enter(maxRunning: number): Entry {
    const { state } = this;
    if (state === 'open') return { type: 'open', afterMs: this.#openUntilMs! - this.#now() };
    const { maxConcurrent, openMs } = this.#options;
    if (this.#numRunning >= Math.min(maxConcurrent, maxRunning)) return this.#wait();
    const isProbe = state === 'half-open';
    if (isProbe && this.#isProbing) return { type: 'open', afterMs: openMs };
    if (isProbe) this.#isProbing = true;
    this.#numRunning += 1;
    return { type: 'entered', leave: (visit) => this.#leave(visit, isProbe) };
  }

  #leave({ isAlive, durationMs }: Visit, isProbe: boolean): void {
    this.#numRunning -= 1;
    this.#numTimed = Math.min(this.#numTimed + 1, NUM_TIMED);
    this.#meanDurationMs += (durationMs - this.#meanDurationMs) / this.#numTimed;
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
    const turnMs = (HASTE * this.#meanDurationMs) / this.#options.maxConcurrent;
    this.#nextTurnMs = Math.min(Math.max(this.#nextTurnMs, nowMs) + turnMs, nowMs + MAX_BUSY_MS);
    return { type: 'busy', afterMs: Math.ceil(this.#nextTurnMs - nowMs) };
  }
}

/** What is known of one, and when it was asked for last. */
interface Used {
  readonly endpoint: Endpoint;
  usedMs: number;
}

/**
 * The endpoints of this process. One is a tenant's host, whatever the paths: those of a host that
 * hangs would hang one after the other. No endpoint gets more than a quarter of the places that are
 * left, and no tenant more than half, so that there always is one for somebody else.
 */
export class Endpoints {
  readonly #options: EndpointOptions;
  readonly #now: () => number;
  /** In the order in which they were last asked for. */
  readonly #usedByName = new Map<string, Used>();
  readonly #numRunningByTenant = new Map<string, number>();

  constructor(options: EndpointOptions, now: () => number) {
    this.#options = options;
    this.#now = now;
  }

  /** Those of which something is known. */
  get size(): number {
    return this.#usedByName.size;
  }

  get numOpen(): number {
    const states = Array.from(this.#usedByName.values(), ({ endpoint }) => endpoint.state);
    return states.filter((state) => state !== 'closed').length;
  }

  /** @param numFree places that are left for the deliveries of all */
  enter({ tenant, url }: Receiver, numFree: number): Entry {
    const endpoint = this.#use(`${tenant} ${new URL(url).origin}`);
    const numOfTenant = this.#numRunningByTenant.get(tenant) ?? 0;
    const hasRoom = numOfTenant < Math.max(1, Math.floor(numFree / 2));
    const entry = endpoint.enter(hasRoom ? Math.max(1, Math.floor(numFree / 4)) : 0);
    if (entry.type !== 'entered') return entry;
    this.#numRunningByTenant.set(tenant, numOfTenant + 1);
    return {
      type: 'entered',
      leave: (visit) => {
        this.#leave(tenant);
        entry.leave(visit);
      },
    };
  }

  #leave(tenant: string): void {
    const numLeft = (this.#numRunningByTenant.get(tenant) ?? 1) - 1;
    if (numLeft === 0) this.#numRunningByTenant.delete(tenant);
    else this.#numRunningByTenant.set(tenant, numLeft);
  }

  #use(name: string): Endpoint {
    const nowMs = this.#now();
    const used = this.#usedByName.get(name) ?? {
      endpoint: new Endpoint(this.#options, this.#now),
      usedMs: nowMs,
    };
    used.usedMs = nowMs;
    this.#usedByName.delete(name); // put back at the end: a map keeps the order of insertion
    this.#usedByName.set(name, used);
    this.#forgetUnused(nowMs);
    return used.endpoint;
  }

  /** What waits for a breaker comes back when that may be probed. */
  #forgetUnused(nowMs: number): void {
    for (const [name, { usedMs }] of this.#usedByName) {
      if (nowMs - usedMs < 2 * this.#options.maxOpenMs) return;
      this.#usedByName.delete(name);
    }
  }
}
