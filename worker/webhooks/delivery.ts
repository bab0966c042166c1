import { Queue } from 'bullmq';
import { z } from 'zod';
import type { TenantId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';

/**
 * One notice for one receiver: everything that an attempt needs, for its request may be forgotten
 * by then.
 */
export const deliverySchema = z.object({
  /** The same for every attempt and every redelivery. */
  webhookId: z.string(),
  /** The request or batch it is about. */
  subject: z.string(),
  tenant: z.custom<TenantId>((value) => typeof value === 'string'),
  type: z.string(),
  url: z.string(),
  secrets: z.array(z.string()),
  body: z.string(),
  createdMs: z.number(),
  /** Asked for by somebody, so that it is tried whether or not the endpoint is disabled. */
  isRedelivery: z.boolean(),
});

export type Delivery = z.infer<typeof deliverySchema>;

/**
 * A delivery is known for so long after it succeeded, so that one handed over twice is sent once.
 */
const SUCCEEDED_FOR_S = 3600;
const MAX_SUCCEEDED = 20_000;
/** Dead ones can be sent again for as long as this. */
const FAILED_FOR_S = 30 * 24 * 3600;
/** The schedule decides (retry-schedule.ts). */
const UNLIMITED = 1_000_000;

/** BullMQ's queue of deliveries. */
export class DeliveryQueue implements AsyncDisposable {
  readonly #queue: Queue;

  constructor(client: RedisClient, keys: Keys) {
    const { prefix, name } = keys.deliveries;
    this.#queue = new Queue(name, { prefix, connection: client });
    this.#queue.on('error', () => undefined); // told by the call that fails
  }

  /** Adding the same webhook id again adds nothing. */
  async add(delivery: Delivery): Promise<void> {
    await this.#add(delivery, delivery.webhookId);
  }

  /**
   * Sends a delivery once more, whatever became of it.
   *
   * @param nonce tells one redelivery from the next
   */
  async addAgain(delivery: Delivery, nonce: string): Promise<void> {
    const again = { ...delivery, createdMs: Date.now(), isRedelivery: true };
    await this.#add(again, `${delivery.webhookId}_${nonce}`);
  }

  /** @returns `null` when it is not known here, or no longer */
  async find(webhookId: string): Promise<Delivery | null> {
    const job = await this.#queue.getJob(webhookId);
    return deliverySchema.safeParse(job?.data).data ?? null;
  }

  /** @returns deliveries that are due */
  async numWaiting(): Promise<number> {
    const counts = await this.#queue.getJobCounts('wait', 'prioritized');
    return (counts.wait ?? 0) + (counts.prioritized ?? 0);
  }

  async #add(delivery: Delivery, jobId: string): Promise<void> {
    await this.#queue.add('deliver', delivery, {
      jobId,
      attempts: UNLIMITED,
      backoff: { type: 'custom' },
      removeOnComplete: { age: SUCCEEDED_FOR_S, count: MAX_SUCCEEDED },
      removeOnFail: { age: FAILED_FOR_S },
      stackTraceLimit: 0,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.close().catch(() => undefined);
  }
}
