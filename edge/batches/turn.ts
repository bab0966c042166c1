import type { Queue, Job as QueueJob } from 'bullmq';

export interface TurnOptions {
  readonly queue: Queue;
  /** How long a batch keeps its place while others wait that are as urgent. */
  readonly turnMs: number;
  /** Aborts when this process is to end. */
  readonly stopped: AbortSignal;
}

/**
 * A batch's turn at one of the places of its runner. It lasts as long as nobody else waits for it:
 * long batches would otherwise keep all places for a day.
 */
export class Turn implements Disposable {
  /** Aborts when the batch is to be left for another runner, or for later. */
  readonly signal: AbortSignal;
  readonly #options: TurnOptions;
  readonly #job: QueueJob;
  readonly #over = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(job: QueueJob, options: TurnOptions) {
    this.#job = job;
    this.#options = options;
    this.signal = AbortSignal.any([options.stopped, this.#over.signal]);
    this.#timer = setInterval(() => void this.#look(), options.turnMs);
  }

  /** Puts the batch back, behind those that are as urgent if its turn is over. */
  async giveBack(token: string | undefined): Promise<void> {
    await this.#job.moveToWait(token);
    if (this.#over.signal.aborted) await this.#job.changePriority({ priority: this.#job.priority });
  }

  async #look(): Promise<void> {
    const { queue } = this.#options;
    try {
      // Those that have lost their runner wait before all others, without a priority.
      const [numLost, [next]] = await Promise.all([
        queue.getWaitingCount(),
        queue.getPrioritized(0, 0),
      ]);
      const isWanted = numLost > 0 || (next !== undefined && next.priority <= this.#job.priority);
      if (isWanted) this.#over.abort();
    } catch {
      // While Redis is away, nobody takes its place.
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
