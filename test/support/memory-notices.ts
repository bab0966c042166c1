import type {
  LetterCursor,
  NoticeEntry,
  NoticeStore,
  PageQuery,
  ResendReply,
  Resent,
} from '../../edge/transport/notices.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { TenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import {
  type DeadLetter,
  type DeliveryAttempt,
  type ListedNotice,
  webhookIdOf,
} from '../../shared/protocol/webhook.ts';

/**
 * Notices in memory, with the semantics of those in Redis; of a job's own, that it was queued. Also
 * the webhook process's side: `add...`.
 */
export class MemoryNotices implements NoticeStore {
  readonly redeliveries: string[] = [];
  /** Entries at the beginning of each tenant's list that are no longer kept. */
  numTrimmed = 0;
  /** Called first by every method. */
  readonly #reach: () => Promise<void>;
  readonly #nonces = new Set<string>();
  readonly #attemptsBySubject = new Map<string, DeliveryAttempt[]>();
  readonly #lettersByTenant = new Map<TenantId, DeadLetter[]>();
  readonly #noticesByTenant = new Map<TenantId, ListedNotice[]>();

  constructor(reach: () => Promise<void>) {
    this.#reach = reach;
  }

  addAttempt(subject: string, attempt: DeliveryAttempt): void {
    this.#attemptsBySubject.set(subject, [
      ...(this.#attemptsBySubject.get(subject) ?? []),
      attempt,
    ]);
  }

  addDeadLetter(tenant: TenantId, letter: DeadLetter): void {
    const letters = [...(this.#lettersByTenant.get(tenant) ?? []), letter];
    this.#lettersByTenant.set(
      tenant,
      letters.sort((a, b) => (isAfter(a, b) ? 1 : -1)),
    );
  }

  removeDeadLetter(tenant: TenantId, id: string): void {
    const letters = this.#lettersByTenant.get(tenant) ?? [];
    this.#lettersByTenant.set(
      tenant,
      letters.filter(({ webhookId }) => webhookId !== id),
    );
  }

  addNotice(tenant: TenantId, notice: ListedNotice): void {
    this.#noticesByTenant.set(tenant, [...(this.#noticesByTenant.get(tenant) ?? []), notice]);
  }

  async attempts(subject: string): Promise<readonly DeliveryAttempt[]> {
    await this.#reach();
    return this.#attemptsBySubject.get(subject) ?? [];
  }

  async resend(resent: Resent, nonce: string): Promise<ResendReply> {
    const reply = await this.#replyTo(resent);
    const webhookId = resent.type === 'batch' ? resent.notice.webhookId : resent.webhookId;
    if (reply === 'accepted' && !this.#nonces.has(nonce)) this.redeliveries.push(webhookId);
    this.#nonces.add(nonce);
    return reply;
  }

  async #replyTo(resent: Resent): Promise<ResendReply> {
    await this.#reach();
    if (resent.type === 'batch') return 'accepted';
    if (resent.type === 'job') return this.#replyToJob(resent.job, resent.webhookId);
    const letter = await this.deadLetter(resent.tenant, resent.webhookId);
    return letter === null ? 'unknown' : 'accepted';
  }

  #replyToJob({ id, webhook }: Job, webhookId: string): ResendReply {
    if (webhookId === webhookIdOf(id, { n: 0 })) {
      return webhook?.events.includes('job.queued') ? 'accepted' : 'unknown';
    }
    const attempts = (this.#attemptsBySubject.get(id) ?? []).filter(
      (attempt) => attempt.webhookId === webhookId,
    );
    if (attempts.length === 0) return 'unknown';
    const isTaken = attempts.some(({ status }) => status !== null && status >= 200 && status < 300);
    return isTaken ? 'taken' : 'accepted';
  }

  async deadLetter(tenant: TenantId, id: string): Promise<DeadLetter | null> {
    await this.#reach();
    const letters = this.#lettersByTenant.get(tenant) ?? [];
    return letters.find(({ webhookId }) => webhookId === id) ?? null;
  }

  async deadLetters({ tenant, after, limit }: PageQuery<LetterCursor>) {
    await this.#reach();
    const letters = this.#lettersByTenant.get(tenant) ?? [];
    return letters.filter((letter) => after === null || isAfter(letter, after)).slice(0, limit);
  }

  async list({ tenant, after, limit }: PageQuery<string>): Promise<readonly NoticeEntry[]> {
    await this.#reach();
    const entries = (this.#noticesByTenant.get(tenant) ?? []).map((notice, i) => {
      return { cursor: `${i + 1}-0`, notice };
    });
    const start = after === null ? 0 : Number(/^(\d+)-0$/.exec(after)?.[1] ?? Number.NaN);
    if (Number.isNaN(start)) {
      throw new PlatformError('invalid_request', 'after is unknown', { param: 'after' });
    }
    if (after !== null && start < this.numTrimmed) {
      const message = `ask with after=${this.numTrimmed}-0`;
      throw new PlatformError('events_trimmed', message, { param: 'after' });
    }
    return entries.slice(Math.max(start, this.numTrimmed)).slice(0, limit);
  }
}

function isAfter(a: LetterCursor, b: LetterCursor): boolean {
  return a.atMs === b.atMs ? a.webhookId < b.webhookId : a.atMs < b.atMs;
}
