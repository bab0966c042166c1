import {
  type ForgetReply,
  isWanted,
  type JobPage,
  type JobQuery,
  type JobStore,
  type QueuePlace,
} from '../../edge/transport/jobs.ts';
import type { RequestState } from '../../edge/transport/transport.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';

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

/** Background requests in memory, with the semantics of those in Redis. */
export class MemoryJobs implements JobStore {
  /** Whose webhook is still to be told of their end. */
  readonly untold = new Set<RequestId>();
  readonly #host: JobHost;
  /** Oldest first. */
  readonly #ids: RequestId[] = [];

  constructor(host: JobHost) {
    this.#host = host;
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

  async forget({ id }: Job): Promise<ForgetReply> {
    const state = await this.#host.request(id);
    if (state === null) return 'unknown';
    if (state.timesMs.ended === null) return 'open';
    if (this.untold.has(id)) return 'untold';
    this.#host.forget(id);
    return 'forgotten';
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
