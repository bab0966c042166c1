import {
  isWanted,
  type JobPage,
  type JobQuery,
  type JobStore,
  type NoticeEntry,
  type PageQuery,
  type QueuePlace,
} from '../../edge/transport/jobs.ts';
import type { RequestState } from '../../edge/transport/transport.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId, TenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import {
  type DeadLetter,
  type DeliveryAttempt,
  type ListedNotice,
  webhookIdOf,
} from '../../shared/protocol/webhook.ts';

/** What a store in memory wants of the queue and log in memory. */
export interface JobHost {
  ping(): Promise<void>;
  /** @returns the job that stands under the id */
  submit(job: Job): Promise<Job>;
  request(id: RequestId): Promise<RequestState | null>;
  /** Ends a request that has not begun. */
  expire(id: RequestId): void;
  forget(id: RequestId): void;
  /** `null` when it does not wait. */
  place(job: Job): QueuePlace | null;
}

/**
 * Background requests in memory, with the semantics of those in Redis. Also the webhook process's
 * side: `add...`.
 */
export class MemoryJobs implements JobStore {
  readonly redeliveries: string[] = [];
  readonly #nonces = new Set<string>();
  readonly #host: JobHost;
  /** Oldest first. */
  readonly #ids: RequestId[] = [];
  readonly #attemptsById = new Map<RequestId, DeliveryAttempt[]>();
  readonly #lettersByTenant = new Map<TenantId, DeadLetter[]>();
  readonly #noticesByTenant = new Map<TenantId, ListedNotice[]>();

  constructor(host: JobHost) {
    this.#host = host;
  }

  addAttempt(id: RequestId, attempt: DeliveryAttempt): void {
    this.#attemptsById.set(id, [...(this.#attemptsById.get(id) ?? []), attempt]);
  }

  addDeadLetter(tenant: TenantId, letter: DeadLetter): void {
    this.#lettersByTenant.set(tenant, [letter, ...(this.#lettersByTenant.get(tenant) ?? [])]);
  }

  addNotice(tenant: TenantId, notice: ListedNotice): void {
    this.#noticesByTenant.set(tenant, [...(this.#noticesByTenant.get(tenant) ?? []), notice]);
  }

  async enqueue(job: Job): Promise<Job> {
    const standing = await this.#host.submit(job);
    if (job.class !== 'batch' && !this.#ids.includes(job.id)) this.#ids.push(job.id);
    return standing;
  }

  async find(id: RequestId): Promise<RequestState | null> {
    const state = await this.#host.request(id);
    if (state?.status !== 'queued' || (state.job.deadlineMs ?? Infinity) > Date.now()) return state;
    this.#host.expire(id);
    return this.#host.request(id);
  }

  async place(job: Job): Promise<QueuePlace | null> {
    await this.#host.ping();
    return this.#host.place(job);
  }

  async list(query: JobQuery): Promise<JobPage> {
    const newestFirst = this.#ids.toReversed();
    const ids = newestFirst.slice(startAfter(newestFirst, query.after));
    const states = await Promise.all(ids.map((id) => this.find(id)));
    const wanted = states
      .filter((state) => state !== null)
      .filter((state) => isWanted(state, query));
    const page = wanted.slice(0, query.limit);
    const hasMore = wanted.length > query.limit;
    return { jobs: page, lastId: page.at(-1)?.id ?? query.after, hasMore };
  }

  async forget(id: RequestId): Promise<'forgotten' | 'open' | 'unknown'> {
    const state = await this.#host.request(id);
    if (state === null) return 'unknown';
    if (state.timesMs.ended === null) return 'open';
    this.#host.forget(id);
    this.#attemptsById.delete(id);
    return 'forgotten';
  }

  async deliveries(id: RequestId): Promise<readonly DeliveryAttempt[]> {
    await this.#host.ping();
    return this.#attemptsById.get(id) ?? [];
  }

  async redeliver(job: Job, webhookId: string, nonce: string): Promise<boolean> {
    const attempts = await this.deliveries(job.id);
    const isQueuedNotice =
      webhookId === webhookIdOf(job.id, { n: 0 }) && job.webhook?.events.includes('job.queued');
    if (!isQueuedNotice && !attempts.some((attempt) => attempt.webhookId === webhookId)) {
      return false;
    }
    if (!this.#nonces.has(nonce)) this.redeliveries.push(webhookId);
    this.#nonces.add(nonce);
    return true;
  }

  async deadLetters({ tenant, after, limit }: PageQuery): Promise<readonly DeadLetter[]> {
    await this.#host.ping();
    const letters = this.#lettersByTenant.get(tenant) ?? [];
    const start = startAfter(
      letters.map(({ webhookId }) => webhookId),
      after,
    );
    return letters.slice(start, start + limit);
  }

  async notices({ tenant, after, limit }: PageQuery): Promise<readonly NoticeEntry[]> {
    await this.#host.ping();
    const entries = (this.#noticesByTenant.get(tenant) ?? []).map((notice, i) => {
      return { cursor: `${i + 1}-0`, notice };
    });
    const start = after === null ? 0 : Number(/^(\d+)-0$/.exec(after)?.[1] ?? Number.NaN);
    if (Number.isNaN(start)) throw unknownAfter();
    return entries.slice(start, start + limit);
  }
}

function startAfter(ids: readonly string[], after: string | null): number {
  if (after === null) return 0;
  const index = ids.indexOf(after);
  if (index < 0) throw unknownAfter();
  return index + 1;
}

function unknownAfter(): PlatformError {
  return new PlatformError('invalid_request', 'after is unknown', { param: 'after' });
}
