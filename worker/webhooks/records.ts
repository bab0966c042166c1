import type { TenantId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import {
  DEAD_LETTERS_FOR_MS,
  type DeadLetter,
  type DeliveryAttempt,
} from '../../shared/protocol/webhook.ts';
import type { PatientRedis } from '../queue/patient-redis.ts';
import { type Delivery, decodeDelivery, isTaken } from './delivery.ts';

export interface RecordsContext {
  readonly redis: PatientRedis;
  readonly keys: Keys;
}

/** What there is to say of the last attempt of a delivery that nobody will try again by itself. */
export type LastAttempt = Pick<DeadLetter, 'numAttempts' | 'status' | 'error'>;

/** Attempts can be seen for so long after one that was taken; after others, as dead letters. */
const TAKEN_FOR_MS = 24 * 3_600_000;
const MAX_ATTEMPTS = 1000;
/** Of a tenant. */
const MAX_DEAD_LETTERS = 10_000;
/** An endpoint that said goodbye is tried again after so long. */
const DISABLED_FOR_MS = 30 * 24 * 3_600_000;
const MAX_DISABLED = 1000;

/**
 * What tenants can see of their deliveries: attempts, dead letters, endpoints that said goodbye.
 * Waits for Redis to be able to write them: what could not be noted would be sent again.
 */
export class DeliveryRecords {
  readonly #context: RecordsContext;

  constructor(context: RecordsContext) {
    this.#context = context;
  }

  async addAttempt(subject: string, attempt: DeliveryAttempt): Promise<void> {
    const keepMs = isTaken(attempt) ? TAKEN_FOR_MS : DEAD_LETTERS_FOR_MS;
    const key = this.#context.keys.deliveriesOf(subject);
    await this.#context.redis.ask((client) =>
      client
        .multi()
        .rpush(key, JSON.stringify(attempt))
        .ltrim(key, -MAX_ATTEMPTS, -1)
        .pexpire(key, keepMs, 'NX')
        .pexpire(key, keepMs, 'GT')
        .exec(),
    );
  }

  /** Keeps what was given up, to be sent again whatever became of its request. */
  async addDeadLetter(delivery: Delivery, last: LastAttempt, atMs: number): Promise<void> {
    const { tenant, webhookId, subject, type, url } = delivery;
    const letter: DeadLetter = { webhookId, requestId: subject, type, url, atMs, ...last };
    const keys = this.#context.keys.deadLettersOf(tenant);
    const key = keys.letter(webhookId);
    const fields = { letter: JSON.stringify(letter), delivery: JSON.stringify(delivery) };
    await this.#context.redis.ask((client) =>
      client
        .multi()
        .hset(key, fields)
        .pexpire(key, DEAD_LETTERS_FOR_MS)
        .zadd(keys.index, atMs, webhookId)
        .zremrangebyscore(keys.index, '-inf', atMs - DEAD_LETTERS_FOR_MS)
        .exec(),
    );
    await this.#trimDeadLetters(tenant);
  }

  /** @returns what to send again; `null` for what was not given up, or no longer */
  async findDeadLetter(tenant: TenantId, webhookId: string): Promise<Delivery | null> {
    const { redis, keys } = this.#context;
    const letter = keys.deadLettersOf(tenant).letter(webhookId);
    const text = await redis.ask((client) => client.hget(letter, 'delivery'));
    return text === null ? null : decodeDelivery(JSON.parse(text));
  }

  async removeDeadLetter({ tenant, webhookId }: Delivery): Promise<void> {
    const { index, letter } = this.#context.keys.deadLettersOf(tenant);
    await this.#context.redis.ask((client) =>
      client.multi().zrem(index, webhookId).unlink(letter(webhookId)).exec(),
    );
  }

  async isDisabled({ tenant, url }: Delivery): Promise<boolean> {
    const key = this.#context.keys.disabledEndpointsOf(tenant);
    const disabledMs = await this.#context.redis.ask((client) => client.zscore(key, url));
    return disabledMs !== null && Number(disabledMs) > Date.now() - DISABLED_FOR_MS;
  }

  async disable({ tenant, url }: Delivery, atMs: number): Promise<void> {
    const key = this.#context.keys.disabledEndpointsOf(tenant);
    await this.#context.redis.ask((client) =>
      client
        .multi()
        .zadd(key, atMs, url)
        .zremrangebyscore(key, '-inf', atMs - DISABLED_FOR_MS)
        .zremrangebyrank(key, 0, -MAX_DISABLED - 1)
        .exec(),
    );
  }

  async enable({ tenant, url }: Delivery): Promise<void> {
    await this.#context.redis.ask((client) =>
      client.zrem(this.#context.keys.disabledEndpointsOf(tenant), url),
    );
  }

  async #trimDeadLetters(tenant: TenantId): Promise<void> {
    const { index, letter } = this.#context.keys.deadLettersOf(tenant);
    const oldest = await this.#context.redis.ask((client) =>
      client.zrange(index, 0, `${-MAX_DEAD_LETTERS - 1}`),
    );
    if (oldest.length === 0) return;
    await this.#context.redis.ask((client) =>
      client
        .multi()
        .zrem(index, ...oldest)
        .unlink(...oldest.map(letter))
        .exec(),
    );
  }
}
