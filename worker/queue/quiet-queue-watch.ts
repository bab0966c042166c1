import type { Keys, QueueOf } from '../../shared/protocol/keys.ts';
import type { RedisClient } from './connection.ts';
import { countWaiting } from './waiting-jobs.ts';

export interface QuietQueueOptions {
  readonly queue: QueueOf;
  readonly checkMs: number;
  /** Whether this worker would take a request if it were given one. */
  readonly hasRoom: () => boolean;
  /** Requests taken so far. */
  readonly numTaken: () => number;
  readonly onStuck: () => void;
}

/** Checks in a row that found requests waiting, room here, and nothing taken. */
const MAX_QUIET_CHECKS = 3;

/**
 * Notices that requests wait while the queue gives none to a worker with room: consumers have been
 * seen to fall silent after a reconnect or a failover.
 */
export class QuietQueueWatch implements Disposable {
  readonly #client: RedisClient;
  readonly #keys: Keys;
  readonly #options: QuietQueueOptions;
  readonly #timer: NodeJS.Timeout;
  #isChecking = false;
  #numQuiet = 0;
  #numTakenBefore = 0;

  constructor(client: RedisClient, keys: Keys, options: QuietQueueOptions) {
    this.#client = client;
    this.#keys = keys;
    this.#options = options;
    this.#timer = setInterval(() => void this.check(), options.checkMs);
  }

  async check(): Promise<void> {
    if (this.#isChecking) return; // Redis is away
    this.#isChecking = true;
    try {
      await this.#look();
    } catch {
      this.#numQuiet = 0; // no answer says nothing about the queue
    } finally {
      this.#isChecking = false;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const { queue, hasRoom, numTaken, onStuck } = this.#options;
    const numWaiting = await countWaiting(this.#client, this.#keys, queue);
    const isQuiet = numWaiting > 0 && hasRoom() && numTaken() === this.#numTakenBefore;
    this.#numTakenBefore = numTaken();
    this.#numQuiet = isQuiet ? this.#numQuiet + 1 : 0;
    if (this.#numQuiet < MAX_QUIET_CHECKS) return;
    this.#numQuiet = 0;
    onStuck();
  }
}
