import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import type { TenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import {
  DEAD_LETTERS_FOR_MS,
  type DeadLetter,
  type DeliveryAttempt,
  deadLetterSchema,
  deliveryAttemptSchema,
  listedNoticeSchema,
  outboxEntrySchema,
} from '../../shared/protocol/webhook.ts';
import { type Redelivery, requestRedelivery } from '../../shared/protocol/webhook-outbox.ts';
import type {
  LetterCursor,
  NoticeEntry,
  NoticeStore,
  PageQuery,
  ResendReply,
  Resent,
} from './notices.ts';
import type { Reach } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';

export interface NoticesContext {
  readonly client: RedisClient;
  readonly reach: Reach;
  readonly keys: Keys;
}

/** Of `XINFO STREAM`, by name. */
const streamInfoSchema = z.array(z.unknown()).transform((reply) => {
  const numberAt = (name: string) => z.coerce.number().parse(reply[reply.indexOf(name) + 1]);
  return { numKept: numberAt('length'), numAdded: numberAt('entries-added') };
});

/** Notices, and what became of them, in Redis. */
export class RedisNotices implements NoticeStore {
  readonly #context: NoticesContext;

  constructor(context: NoticesContext) {
    this.#context = context;
  }

  async attempts(subject: string): Promise<readonly DeliveryAttempt[]> {
    const { client, keys, reach } = this.#context;
    const texts = await reach.call(() => client.lrange(keys.deliveriesOf(subject), 0, -1));
    return texts.map((text) => deliveryAttemptSchema.parse(JSON.parse(text)));
  }

  async resend(resent: Resent, nonce: string): Promise<ResendReply> {
    const { client, keys, reach } = this.#context;
    const reply = await this.#replyTo(resent);
    if (reply !== 'accepted') return reply;
    const redelivery = { ...toRedelivery(resent), nonce };
    await reach.call(() => requestRedelivery(client, keys, redelivery));
    return reply;
  }

  async #replyTo(resent: Resent): Promise<ResendReply> {
    switch (resent.type) {
      case 'batch':
        return 'accepted';
      case 'letter': {
        const letter = await this.deadLetter(resent.tenant, resent.webhookId);
        return letter === null ? 'unknown' : 'accepted';
      }
      case 'job':
        return this.#replyToJob(resent.job, resent.webhookId);
    }
  }

  /** What stands in the outbox can be made anew; a piece of output is kept until it is taken. */
  async #replyToJob(job: Job, webhookId: string): Promise<ResendReply> {
    const { client, keys, reach } = this.#context;
    const n = new RegExp(`^msg_${job.id}_(\\d{1,6})$`).exec(webhookId)?.[1];
    if (n !== undefined) {
      const text = await reach.call(() => client.lindex(keys.request(job.id).outbox, Number(n)));
      if (text === null) return 'unknown';
      const { type } = outboxEntrySchema.parse(JSON.parse(text));
      return job.webhook?.events.includes(type) ? 'accepted' : 'unknown';
    }
    const attempts = await this.attempts(job.id);
    const statuses = attempts
      .filter((attempt) => attempt.webhookId === webhookId)
      .map(({ status }) => status ?? 0);
    if (statuses.length === 0) return 'unknown';
    return statuses.some((status) => status >= 200 && status < 300) ? 'taken' : 'accepted';
  }

  async deadLetter(tenant: TenantId, webhookId: string): Promise<DeadLetter | null> {
    const { client, keys, reach } = this.#context;
    const key = keys.deadLettersOf(tenant).letter(webhookId);
    const text = await reach.call(() => client.hget(key, 'letter'));
    return text === null ? null : deadLetterSchema.parse(JSON.parse(text));
  }

  async deadLetters({
    tenant,
    after,
    limit,
  }: PageQuery<LetterCursor>): Promise<readonly DeadLetter[]> {
    const letters: DeadLetter[] = [];
    for (let last = after; ; ) {
      const page = await this.#lettersAfter({ tenant, after: last, limit });
      const found = await Promise.all(
        page.map(({ webhookId }) => this.deadLetter(tenant, webhookId)),
      );
      letters.push(...found.filter((letter) => letter !== null));
      if (page.length < limit || letters.length >= limit) return letters.slice(0, limit);
      last = page.at(-1) ?? null;
    }
  }

  /** The place of `after` is told by time and name, so that it need not be there any longer. */
  async #lettersAfter({
    tenant,
    after,
    limit,
  }: PageQuery<LetterCursor>): Promise<readonly LetterCursor[]> {
    const { client, keys, reach } = this.#context;
    const { index } = keys.deadLettersOf(tenant);
    const lastMs = after?.atMs ?? Number.MAX_SAFE_INTEGER;
    const oldestMs = Date.now() - DEAD_LETTERS_FOR_MS;
    const numTied =
      after === null ? 0 : await reach.call(() => client.zcount(index, lastMs, lastMs));
    const count = limit + numTied;
    const reply = await reach.call(() =>
      client.zrevrangebyscore(index, lastMs, oldestMs, 'WITHSCORES', 'LIMIT', 0, count),
    );
    const letters = reply.flatMap((webhookId, i) =>
      i % 2 === 0 ? [{ webhookId, atMs: Number(reply[i + 1]) }] : [],
    );
    const isAfter = ({ webhookId, atMs }: LetterCursor) =>
      after === null || atMs < after.atMs || webhookId < after.webhookId;
    return letters.filter(isAfter).slice(0, limit);
  }

  async list({ tenant, after, limit }: PageQuery<string>): Promise<readonly NoticeEntry[]> {
    const { client, keys, reach } = this.#context;
    const stream = keys.noticesOf(tenant);
    if (after !== null) await this.#checkKept(stream, after);
    const start = after === null ? '-' : `(${after}`;
    const entries = await reach.call(() => client.xrange(stream, start, '+', 'COUNT', limit));
    return entries.map(([cursor, [, text = '']]) => {
      return { cursor, notice: listedNoticeSchema.parse(JSON.parse(text)) };
    });
  }

  /**
   * Of a stream that was cut, entries may be missing before its first one.
   *
   * @throws {PlatformError} as `list`
   */
  async #checkKept(stream: string, after: string): Promise<void> {
    const { client, reach } = this.#context;
    const cursor = parseCursor(after);
    const [first] = await reach.call(() => client.xrange(stream, '-', '+', 'COUNT', 1));
    if (first === undefined) return;
    const before = cursorBefore(first[0]);
    if (!isBefore(cursor, before)) return;
    const info = await reach.call(() => client.xinfo('STREAM', stream));
    const { numKept, numAdded } = streamInfoSchema.parse(info);
    if (numAdded <= numKept) return;
    const message =
      `events after ${after} are no longer kept; ` +
      `ask with after=${before.join('-')} to go on from the oldest that are`;
    throw new PlatformError('events_trimmed', message, { param: 'after' });
  }
}

function toRedelivery(resent: Resent): Omit<Redelivery, 'nonce'> {
  switch (resent.type) {
    case 'job':
      return { webhookId: resent.webhookId, tenant: resent.job.tenant };
    case 'batch': {
      const { notice } = resent;
      return { webhookId: notice.webhookId, tenant: notice.tenant, notice };
    }
    case 'letter':
      return { webhookId: resent.webhookId, tenant: resent.tenant };
  }
}

type Cursor = readonly [ms: number, seq: number];

/** Greater than any number of notices within a millisecond. */
const LAST_SEQ = 999_999_999;

/** @throws {PlatformError} `invalid_request` for what is none */
function parseCursor(after: string): Cursor {
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(after);
  if (match !== null) return [Number(match[1]), Number(match[2])];
  const message = `after is ${JSON.stringify(after.slice(0, 80))}; it must be the next_after of a page`;
  throw new PlatformError('invalid_request', message, { param: 'after' });
}

function cursorBefore(id: string): Cursor {
  const [ms, seq] = parseCursor(id);
  return seq > 0 ? [ms, seq - 1] : [ms - 1, LAST_SEQ];
}

function isBefore(a: Cursor, b: Cursor): boolean {
  return a[0] === b[0] ? a[1] < b[1] : a[0] < b[0];
}
