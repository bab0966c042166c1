import { isRequestId, type RequestId, toRequestId } from '../../shared/ids.ts';
import { TAKE_DUE } from '../../shared/protocol/notice-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import {
  decodeOutboxItem,
  type PushedNotice,
  type Redelivery,
} from '../../shared/protocol/webhook-outbox.ts';
import type { Log } from '../telemetry/log.ts';
import type { Delivery } from './delivery.ts';
import { handOver, type Notice, toDelivery } from './hand-over.ts';
import type { DeliveryRecords } from './records.ts';
import type { NoticesContext, RequestNotices } from './request-notices.ts';

export interface DrainContext extends NoticesContext {
  readonly notices: RequestNotices;
  readonly records: DeliveryRecords;
  readonly log: Log;
}

/** Between two looks at what is due, whether or not anybody said so. */
const SWEEP_MS = 250;
/** After a look without an end the next is due. */
const AGAIN_MS = 5000;
const MAX_TAKEN = 256;
/** Looks at a time. */
const MAX_LOOKS = 32;

/**
 * Sees to it that every outbox is emptied: at once where a message says so, and all the same where
 * it got lost.
 */
export class Drain {
  readonly #context: DrainContext;
  readonly #lookById = new Map<RequestId, 'waiting' | 'looking' | 'again'>();
  readonly #waiting: RequestId[] = [];
  #isStopping = false;
  #numLooking = 0;

  constructor(context: DrainContext) {
    this.#context = context;
  }

  /** Somebody said that there is something to see. */
  notify(id: string): void {
    if (this.#isStopping || !isRequestId(id)) return;
    const state = this.#lookById.get(id);
    if (state !== undefined) {
      if (state === 'looking') this.#lookById.set(id, 'again');
      return;
    }
    this.#lookById.set(id, 'waiting');
    this.#waiting.push(id);
    this.#next();
  }

  /** Works until told to stop, and returns when nothing is half done. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#takeDue();
        await this.#emptyOutbox();
      } catch (error) {
        this.#context.log.warn('sweep_failed', { reason: String(error) });
      }
      await pause(SWEEP_MS, signal);
    }
    this.#isStopping = true;
    this.#waiting.length = 0;
    while (this.#numLooking > 0) await pause(10, new AbortController().signal);
  }

  async #takeDue(): Promise<void> {
    if (this.#waiting.length > MAX_TAKEN) return;
    const { host, keys } = this.#context;
    const ids = await runScript(host, TAKE_DUE, [keys.pendingJobs], [MAX_TAKEN, AGAIN_MS]);
    if (!Array.isArray(ids)) return;
    for (const id of ids) this.notify(String(id));
  }

  #next(): void {
    if (this.#numLooking >= MAX_LOOKS) return;
    const id = this.#waiting.shift();
    if (id === undefined) return;
    this.#numLooking += 1;
    this.#lookById.set(id, 'looking');
    void this.#look(id).finally(() => {
      this.#numLooking -= 1;
      const isWanted = this.#lookById.get(id) === 'again';
      this.#lookById.delete(id);
      if (isWanted) this.notify(id);
      this.#next();
    });
  }

  /** What fails is due again by itself. */
  async #look(id: RequestId): Promise<void> {
    const { notices, client, keys, log } = this.#context;
    try {
      const afterMs = await notices.look(id);
      if (afterMs !== null) await client.zadd(keys.pendingJobs, 'XX', Date.now() + afterMs, id);
    } catch (error) {
      log.warn('look_failed', { id, reason: String(error) });
    }
  }

  /** What others than the scripts of requests pushed: each item is tried once. */
  async #emptyOutbox(): Promise<void> {
    const { client, keys } = this.#context;
    for (let numLeft = await client.llen(keys.webhookOutbox); numLeft > 0; ) {
      const texts = await client.lrange(keys.webhookOutbox, 0, Math.min(numLeft, MAX_TAKEN) - 1);
      if (texts.length === 0) return;
      for (const text of texts) await this.#takeItem(text);
      numLeft -= texts.length;
    }
  }

  /** An item goes once it is seen to; one that fails goes behind the others. */
  async #takeItem(text: string): Promise<void> {
    const { client, keys, log } = this.#context;
    const key = keys.webhookOutbox;
    try {
      if (!(await this.#seeTo(text))) log.warn('outbox_item_unknown');
      await client.lrem(key, 1, text);
    } catch (error) {
      log.warn('outbox_item_failed', { reason: String(error) });
      await client.multi().lrem(key, 1, text).rpush(key, text).exec();
    }
  }

  async #seeTo(text: string): Promise<boolean> {
    const item = decodeOutboxItem(text);
    if (item === null) return false;
    if (item.type === 'redelivery') return this.#redeliver(item);
    await handOver(toNotice(item), this.#context);
    return true;
  }

  async #redeliver(redelivery: Redelivery): Promise<boolean> {
    const { webhookId, tenant, nonce } = redelivery;
    const { queue, records } = this.#context;
    const delivery =
      (await queue.find(webhookId)) ??
      (await records.findDeadLetter(tenant, webhookId)) ??
      (await this.#remake(redelivery));
    if (delivery === null) return false;
    await queue.addAgain(delivery, nonce);
    return true;
  }

  /** One of which nothing is kept: anew from its request, or of what was pushed with it. */
  async #remake({ webhookId, notice: pushed }: Redelivery): Promise<Delivery | null> {
    const [, id, n] = /^msg_(req-[0-9a-f]{32})_(\d{1,6})$/.exec(webhookId) ?? [];
    const made =
      id === undefined ? null : await this.#context.notices.notice(toRequestId(id), Number(n));
    const notice = made ?? (pushed === undefined ? null : toNotice(pushed));
    return notice && toDelivery(notice);
  }
}

function toNotice({
  webhookId,
  subject,
  tenant,
  event,
  atMs,
  webhook,
  data,
}: PushedNotice): Notice {
  return { webhookId, subject, tenant, type: event, atMs, webhook, data };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
