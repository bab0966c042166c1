import { Queue } from 'bullmq';
import type { QueueOf } from '../../shared/protocol/keys.ts';
import type { RunContext } from './request-run.ts';

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
  readonly #queue: Queue;
  readonly #options: QuietQueueOptions;
  readonly #timer: NodeJS.Timeout;
  #isChecking = false;
  #numQuiet = 0;
  #numTakenBefore = 0;

  constructor(
    { client, keys, log }: Pick<RunContext, 'client' | 'keys' | 'log'>,
    options: QuietQueueOptions,
  ) {
    const { prefix, name } = keys.queue(options.queue);
    this.#options = options;
    this.#queue = new Queue(name, { prefix, connection: client });
    this.#queue.on('error', ({ message }) => log.warn('queue_error', { reason: message }));
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
    void this.#queue.close().catch(() => undefined);
  }

  async #look(): Promise<void> {
    const { hasRoom, numTaken, onStuck } = this.#options;
    const counts = await this.#queue.getJobCounts('wait', 'prioritized');
    const numWaiting = (counts.wait ?? 0) + (counts.prioritized ?? 0);
    const isQuiet = numWaiting > 0 && hasRoom() && numTaken() === this.#numTakenBefore;
    this.#numTakenBefore = numTaken();
    this.#numQuiet = isQuiet ? this.#numQuiet + 1 : 0;
    if (this.#numQuiet < MAX_QUIET_CHECKS) return;
    this.#numQuiet = 0;
    onStuck();
  }
}
