import type { Keys } from '../../shared/protocol/keys.ts';
import type { DeadLetter, DeliveryAttempt } from '../../shared/protocol/webhook.ts';
import type { RedisClient } from '../queue/connection.ts';
import type { Delivery } from './delivery.ts';

/** What there is to say of the last attempt of a delivery that nobody will try again by itself. */
export type LastAttempt = Pick<DeadLetter, 'numAttempts' | 'status' | 'error'>;

/**
 * Attempts are kept as long as the request; where it is gone, for so long after the last of them.
 */
const ATTEMPTS_FOR_MS = 24 * 3_600_000;
const MAX_ATTEMPTS = 1000;
const MAX_DEAD_LETTERS = 100_000;

/**
 * What tenants can see of their deliveries: attempts, dead letters, endpoints that said goodbye.
 */
export class DeliveryRecords {
  readonly #client: RedisClient;
  readonly #keys: Keys;

  constructor(client: RedisClient, keys: Keys) {
    this.#client = client;
    this.#keys = keys;
  }

  async addAttempt(subject: string, attempt: DeliveryAttempt): Promise<void> {
    const key = this.#keys.deliveriesOf(subject);
    await this.#client
      .multi()
      .rpush(key, JSON.stringify(attempt))
      .ltrim(key, -MAX_ATTEMPTS, -1)
      .pexpire(key, ATTEMPTS_FOR_MS)
      .exec();
  }

  async addDeadLetter(delivery: Delivery, last: LastAttempt, atMs: number): Promise<void> {
    const { tenant, webhookId, subject, type, url } = delivery;
    const letter: DeadLetter = { webhookId, requestId: subject, type, url, atMs, ...last };
    const { index, details: key } = this.#keys.deadLettersOf(tenant);
    await this.#client
      .multi()
      .zadd(index, atMs, webhookId)
      .hset(key, webhookId, JSON.stringify(letter))
      .exec();
    await this.#trimDeadLetters(delivery);
  }

  async removeDeadLetter({ tenant, webhookId }: Delivery): Promise<void> {
    const { index, details } = this.#keys.deadLettersOf(tenant);
    await this.#client.multi().zrem(index, webhookId).hdel(details, webhookId).exec();
  }

  async isDisabled({ tenant, url }: Delivery): Promise<boolean> {
    return (await this.#client.hexists(this.#keys.disabledEndpointsOf(tenant), url)) === 1;
  }

  async disable({ tenant, url }: Delivery, atMs: number): Promise<void> {
    await this.#client.hset(this.#keys.disabledEndpointsOf(tenant), url, `${atMs}`);
  }

  async enable({ tenant, url }: Delivery): Promise<void> {
    await this.#client.hdel(this.#keys.disabledEndpointsOf(tenant), url);
  }

  async #trimDeadLetters({ tenant }: Delivery): Promise<void> {
    const { index, details } = this.#keys.deadLettersOf(tenant);
    const oldest = await this.#client.zrange(index, 0, `${-MAX_DEAD_LETTERS - 1}`);
    if (oldest.length === 0) return;
    await this.#client
      .multi()
      .zrem(index, ...oldest)
      .hdel(details, ...oldest)
      .exec();
  }
}
