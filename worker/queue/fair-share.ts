import type { RequestId } from '../../shared/ids.ts';
import type { Keys, QueueOf } from '../../shared/protocol/keys.ts';
import type { RedisClient } from './connection.ts';
import { countWaiting } from './waiting-jobs.ts';

/** A request that this worker works on. */
export interface Holder {
  readonly id: RequestId;
  /** Output tokens that it has had here. */
  readonly numTokens: number;
  /**
   * Those after which it gives its place to one that waits; `Infinity` where others can be left to
   * wait for its end.
   */
  readonly turnTokens: number;
}

export interface FairShareOptions {
  readonly queue: QueueOf;
  readonly checkMs: number;
  /** Whether this worker would take a request if it were given one. */
  readonly hasRoom: () => boolean;
  readonly holders: () => readonly Holder[];
  /** Gives the request's place away, and puts it at the end of its queue. */
  readonly onTurnOver: (id: RequestId) => void;
}

/**
 * Keeps requests without bound from holding every place of a worker while others wait in its queue:
 * those that have had most give their places away, as many as wait.
 */
export class FairShare implements Disposable {
  readonly #client: RedisClient;
  readonly #keys: Keys;
  readonly #options: FairShareOptions;
  readonly #timer: NodeJS.Timeout;
  #isChecking = false;

  constructor(client: RedisClient, keys: Keys, options: FairShareOptions) {
    this.#client = client;
    this.#keys = keys;
    this.#options = options;
    this.#timer = setInterval(() => void this.check(), options.checkMs);
  }

  async check(): Promise<void> {
    const { queue, hasRoom, holders } = this.#options;
    const isDue = ({ numTokens, turnTokens }: Holder) => numTokens >= turnTokens;
    if (this.#isChecking || hasRoom() || !holders().some(isDue)) return;
    this.#isChecking = true;
    try {
      const numWaiting = await countWaiting(this.#client, this.#keys, queue);
      const due = holders()
        .filter(isDue)
        .sort((a, b) => b.numTokens - a.numTokens);
      for (const { id } of due.slice(0, numWaiting)) this.#options.onTurnOver(id);
    } catch {
      // Redis is away: those who wait there are asked after again.
    } finally {
      this.#isChecking = false;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
