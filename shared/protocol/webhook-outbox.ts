import { z } from 'zod';
import type { TenantId } from '../ids.ts';
import type { Keys } from './keys.ts';
import { webhookSchema } from './webhook.ts';

const tenantSchema = z.custom<TenantId>((value) => typeof value === 'string');

export const pushedNoticeSchema = z.object({
  /** Constant, whoever pushes it and however often: it is delivered once. */
  webhookId: z.string(),
  /** Whose attempts are listed together: the id of a batch. */
  subject: z.string(),
  tenant: tenantSchema,
  event: z.string(),
  atMs: z.number(),
  /** `null` for none: the notice is only listed among the tenant's events. */
  webhook: webhookSchema.nullable(),
  /** What stands in the body under `data`. */
  data: z.record(z.string(), z.unknown()),
});

export type PushedNotice = z.infer<typeof pushedNoticeSchema>;

const redeliverySchema = z.object({
  webhookId: z.string(),
  /** Tells one redelivery from the next. */
  nonce: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  tenant: tenantSchema,
  /** To make the delivery of, where it is no longer kept and no request has it in its outbox. */
  notice: pushedNoticeSchema.optional(),
});

export type Redelivery = z.infer<typeof redeliverySchema>;

const itemSchema = z.discriminatedUnion('type', [
  pushedNoticeSchema.extend({ type: z.literal('notice') }),
  redeliverySchema.extend({ type: z.literal('redelivery') }),
]);

export type OutboxItem = z.infer<typeof itemSchema>;

/** What is wanted of a Redis client to push. */
export interface ListHost {
  rpush(key: string, value: string): Promise<unknown>;
}

/**
 * Hands over a notice that no script of a request has written, such as `batch.completed`. Safe
 * against crashes when it is pushed before what it says is marked as notified, and again for what
 * is not marked: the id keeps it one.
 */
export async function pushNotice(host: ListHost, keys: Keys, notice: PushedNotice): Promise<void> {
  await push(host, keys, { type: 'notice', ...notice });
}

/**
 * Asks for a delivery to be sent once more, under the id it had; within the hour, once for each
 * nonce.
 */
export async function requestRedelivery(
  host: ListHost,
  keys: Keys,
  redelivery: Redelivery,
): Promise<void> {
  await push(host, keys, { type: 'redelivery', ...redelivery });
}

async function push(host: ListHost, keys: Keys, item: OutboxItem): Promise<void> {
  await host.rpush(keys.webhookOutbox, JSON.stringify(item));
}

/** @returns `null` for what this build does not know */
export function decodeOutboxItem(text: string): OutboxItem | null {
  try {
    return itemSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
