import type { TenantId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { ADD_NOTICE } from '../../shared/protocol/notice-scripts.ts';
import { runScript, type ScriptHost } from '../../shared/protocol/request-scripts.ts';
import { type ListedNotice, toEventObject, type Webhook } from '../../shared/protocol/webhook.ts';
import type { Delivery, DeliveryQueue } from './delivery.ts';
import { splitSecrets } from './signature.ts';

export interface Notice {
  /** The same whenever this notice is handed over. */
  readonly webhookId: string;
  readonly subject: string;
  readonly tenant: TenantId;
  readonly type: string;
  readonly atMs: number;
  readonly webhook: Webhook | null;
  /** What the list of events shows, and a thin body. */
  readonly data: Record<string, unknown>;
  /** What a full body has instead. */
  readonly fullData?: () => Promise<Record<string, unknown>>;
}

export interface HandOverContext {
  readonly host: ScriptHost;
  readonly keys: Keys;
  readonly queue: DeliveryQueue;
}

const MAX_EVENTS = 100_000;
/** A notice that is handed over again after this is listed twice, under one id. */
const SEEN_FOR_MS = 3_600_000;
/** A fuller body would be a burden to Redis and receivers; the thin one says where the rest is. */
const MAX_BODY_CHARACTERS = 1024 * 1024;

/**
 * Makes one delivery and one event of the tenant's of a notice, however often it is handed over.
 */
export async function handOver(notice: Notice, context: HandOverContext): Promise<void> {
  const delivery = await toDelivery(notice);
  if (delivery !== null) await context.queue.add(delivery);
  await listEvent(notice, context);
}

/** @returns `null` when nobody wants to be told */
export async function toDelivery(notice: Notice): Promise<Delivery | null> {
  const { webhook, webhookId, subject, tenant, type, atMs } = notice;
  if (webhook === null || !webhook.events.some((event) => event === type)) return null;
  const { url, secret } = webhook;
  return {
    webhookId,
    subject,
    tenant,
    type,
    url,
    secrets: secret === undefined ? [] : splitSecrets(secret),
    body: await bodyOf(notice, webhook.payload === 'full'),
    createdMs: atMs,
    isRedelivery: false,
  };
}

async function bodyOf(notice: Notice, isFull: boolean): Promise<string> {
  if (isFull && notice.fullData !== undefined) {
    const body = JSON.stringify(toEventObject({ ...notice, data: await notice.fullData() }));
    if (body.length <= MAX_BODY_CHARACTERS) return body;
  }
  return JSON.stringify(toEventObject(notice));
}

/** For receivers that were down. Pieces of output would only crowd out the rest. */
async function listEvent(notice: Notice, { host, keys }: HandOverContext): Promise<void> {
  const { webhookId, subject, tenant, type, atMs, data } = notice;
  if (type === 'job.output') return;
  const listed: ListedNotice = { webhookId, requestId: subject, type, atMs, data };
  const event = JSON.stringify(listed);
  const lists = [keys.noticesOf(tenant), keys.seenNoticesOf(tenant)];
  await runScript(host, ADD_NOTICE, lists, [webhookId, event, MAX_EVENTS, SEEN_FOR_MS]);
}
