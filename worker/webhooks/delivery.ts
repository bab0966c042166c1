import { Queue } from 'bullmq';
import { z } from 'zod';
import type { TenantId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type { RedisClient } from '../queue/connection.ts';

/**
 * One notice for one receiver: everything that an attempt needs, for its request may be forgotten
 * by then.
 */
const deliverySchema = z.object({
  /** The same for every attempt and every redelivery. */
  webhookId: z.string(),
  /** The request or batch it is about. */
  subject: z.string(),
  tenant: z.custom<TenantId>((value) => typeof value === 'string'),
  type: z.string(),
  url: z.string(),
  /** Of the webhook's own; none where those of its tenant sign, as they are at each attempt. */
  secrets: z.array(z.string()),
  body: z.string(),
  createdMs: z.number(),
  /** Asked for by somebody, so that it is tried whether or not the endpoint is disabled. */
  isRedelivery: z.boolean(),
});

export type Delivery = z.infer<typeof deliverySchema>;

/** @returns `null` for what is none that this build knows */
export function decodeDelivery(value: unknown): Delivery | null {
  return deliverySchema.safeParse(value).data ?? null;
}

/** Whether an answer ends a delivery for good. */
export function isTaken({ status }: { readonly status: number | null }): boolean {
  return status !== null && status >= 200 && status < 300;
}

/** One that is handed over twice within this time is sent once; nothing else is kept of it. */
const KNOWN_FOR_MS = 3_600_000;
/** The schedule decides (retry-schedule.ts). */
const UNLIMITED = 1_000_000;

/** BullMQ's queue of deliveries that are to be made. */
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

  /** @returns `null` when it is not to be made, or no longer */
  async find(webhookId: string): Promise<Delivery | null> {
    return decodeDelivery((await this.#queue.getJob(webhookId))?.data);
  }

  /** Takes back one that waits for its next attempt. */
  async remove(webhookId: string): Promise<void> {
    await this.#queue.remove(webhookId);
  }

  /** @returns deliveries that are due */
  async numWaiting(): Promise<number> {
    const counts = await this.#queue.getJobCounts('wait', 'prioritized');
    return (counts.wait ?? 0) + (counts.prioritized ?? 0);
  }

  async #add(delivery: Delivery, jobId: string): Promise<void> {
    await this.#queue.add('deliver', delivery, {
      jobId,
      deduplication: { id: jobId, ttl: KNOWN_FOR_MS },
      attempts: UNLIMITED,
      backoff: { type: 'custom' },
      removeOnComplete: true,
      removeOnFail: true,
      stackTraceLimit: 0,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.close().catch(() => undefined);
  }
}
