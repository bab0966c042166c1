import type { Job as QueueJob } from 'bullmq';
import type { Keys, QueueOf } from '../../shared/protocol/keys.ts';
import type { Log } from '../telemetry/log.ts';
import type { PatientRedis } from './patient-redis.ts';

/** BullMQ scores a job that waits by its priority, times this, plus a counter. */
const SCORES_PER_PRIORITY = 2 ** 32;

interface Behind {
  readonly job: QueueJob;
  /** Its own. */
  readonly priority: number;
}

/**
 * Where jobs wait that gave their place to others: behind all that wait, however urgent they are,
 * or they would be taken next. Once somebody has the place, their own priority counts again.
 */
export class BackOfQueue {
  readonly #redis: PatientRedis;
  readonly #prioritized: string;
  readonly #log: Log;
  #behind: Behind[] = []; // in the order in which they left their places

  constructor({ redis, keys, log }: { redis: PatientRedis; keys: Keys; log: Log }, queue: QueueOf) {
    this.#redis = redis;
    this.#prioritized = keys.waitingJobs(queue).prioritized;
    this.#log = log;
  }

  /**
   * Puts a job that was given back behind the others.
   *
   * @param priority its request's
   */
  async add(job: QueueJob, priority: number): Promise<void> {
    const [, lastScore] = await this.#redis.ask((client) =>
      client.zrange(this.#prioritized, '-1', '-1', 'WITHSCORES'),
    );
    const lastPriority = Math.floor(Number(lastScore ?? 0) / SCORES_PER_PRIORITY);
    await this.#change(job, Math.max(priority, lastPriority));
    if (lastPriority > priority) this.#behind.push({ job, priority });
  }

  /** Takes note that a job was taken here: it has the place of the one that left first. */
  async noteTaken(id: string | undefined): Promise<void> {
    this.#behind = this.#behind.filter(({ job }) => job.id !== id);
    const first = this.#behind.shift();
    if (first !== undefined) await this.#change(first.job, first.priority);
  }

  /** A worker that took the job meanwhile keeps it; one that ended it took the job as well. */
  async #change(job: QueueJob, priority: number): Promise<void> {
    await job.changePriority({ priority }).catch((error) => {
      this.#log.debug('turn_over_too_late', { id: job.id ?? null, reason: String(error) });
    });
  }
}
