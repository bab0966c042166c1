import { Queue } from 'bullmq';
import type { RequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';

const MAX_REMEMBERED = 100_000;

/** Does with queues what an edge would do that died: queues requests, and takes them back. */
export class RequestQueue implements AsyncDisposable {
  readonly #client: RedisClient;
  readonly #keys: Keys;
  readonly #queueByName = new Map<string, Queue>();
  readonly #ensured = new Set<RequestId>();

  constructor(client: RedisClient, keys: Keys) {
    this.#client = client;
    this.#keys = keys;
  }

  /** Queueing what is queued does nothing; each is seen to once. */
  async ensure(job: Job): Promise<void> {
    if (this.#ensured.has(job.id)) return;
    const { id, priority } = job;
    const options = { jobId: id, priority, removeOnComplete: true, removeOnFail: true };
    await this.#queueOf(job).add('request', {}, options);
    if (this.#ensured.size >= MAX_REMEMBERED) this.#ensured.clear();
    this.#ensured.add(id);
  }

  /** Takes back one that has ended before its turn: others would wait behind it. */
  async remove(job: Job): Promise<void> {
    await this.#queueOf(job).remove(job.id);
  }

  #queueOf(job: Job): Queue {
    const { prefix, name } = this.#keys.queue(job);
    const known = this.#queueByName.get(`${prefix}:${name}`);
    if (known !== undefined) return known;
    const queue = new Queue(name, { prefix, connection: this.#client, skipMetasUpdate: true });
    queue.on('error', () => undefined); // told by the call that fails
    this.#queueByName.set(`${prefix}:${name}`, queue);
    return queue;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const queues = [...this.#queueByName.values()];
    await Promise.all(queues.map((queue) => queue.close().catch(() => undefined)));
  }
}
