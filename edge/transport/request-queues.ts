import { Queue } from 'bullmq';
import { z } from 'zod';
import type { RequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Keys, QueueOf } from '../../shared/protocol/keys.ts';
import { QUEUE_LOAD } from '../../shared/protocol/registry-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { QueueLoad } from './admission.ts';
import { type Reach, resultWithin } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';

const ADD_WITHIN_MS = 2000;

const loadReplySchema = z
  .tuple([z.int(), z.int(), z.coerce.number()])
  .transform(([numQueued, numAhead, ratePerSecond]) => ({ numQueued, numAhead, ratePerSecond }));

/** BullMQ's two names of a queue. */
type QueueName = ReturnType<Keys['queue']>;

/** The queues of all models, and that of batches, over one connection. */
export class RequestQueues {
  readonly #client: RedisClient;
  readonly #reach: Reach;
  readonly #keys: Keys;
  readonly #queueByName = new Map<string, Queue>();

  constructor(client: RedisClient, reach: Reach, keys: Keys) {
    this.#client = client;
    this.#reach = reach;
    this.#keys = keys;
  }

  /** As it is for a request that is not queued yet. */
  async loadFor(job: QueueOf & Pick<Job, 'priority'>): Promise<QueueLoad> {
    const { wait, prioritized } = this.#keys.waitingJobs(job);
    const keys = [wait, prioritized, this.#keys.activeJobs(job), this.#keys.rates(job)];
    const args = [job.priority];
    const reply = await this.#reach.call(() => runScript(this.#client, QUEUE_LOAD, keys, args));
    return loadReplySchema.parse(reply);
  }

  async add(job: QueueOf & Pick<Job, 'id' | 'priority'>): Promise<void> {
    await this.addTo(this.#keys.queue(job), job.id, job.priority);
  }

  /** What is to be done is in Redis under the id; the queue knows nothing else. */
  async addTo(name: QueueName, id: string, priority = 1): Promise<void> {
    const queue = this.#queueNamed(name);
    const options = { jobId: id, priority, removeOnComplete: true, removeOnFail: true };
    try {
      await this.#reach.call(async () => {
        const added = queue.add('request', {}, options);
        const job = await resultWithin(ADD_WITHIN_MS, added, null);
        if (job === null) throw new Error(`not queued within ${ADD_WITHIN_MS} ms`);
      });
    } catch (error) {
      this.#queueByName.delete(fieldOf(name)); // one that failed to begin stays failed
      queue.close().catch(() => undefined); // it may never have begun; the client stays open
      throw error;
    }
  }

  /** Whether somebody has taken it, and not lost it. */
  async isActive(name: QueueName, id: string): Promise<boolean> {
    const queue = this.#queueNamed(name);
    return (await this.#reach.call(() => queue.getJobState(id))) === 'active';
  }

  /**
   * Makes room at once for others; what is left in the queue all the same, a worker finds to be
   * over.
   */
  async remove(job: QueueOf & { readonly id: RequestId }): Promise<void> {
    const queue = this.#queueNamed(this.#keys.queue(job));
    await this.#reach.call(() => queue.remove(job.id));
  }

  #queueNamed({ prefix, name }: QueueName): Queue {
    const field = fieldOf({ prefix, name });
    const known = this.#queueByName.get(field);
    if (known !== undefined) return known;
    const queue = new Queue(name, { prefix, connection: this.#client, skipMetasUpdate: true });
    queue.on('error', () => undefined); // told by the call that fails
    this.#queueByName.set(field, queue);
    return queue;
  }
}

function fieldOf({ prefix, name }: QueueName): string {
  return `${prefix}:${name}`;
}
