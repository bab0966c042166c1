import { z } from 'zod';
import type { RequestId, TenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { RequestState, RequestStatus } from './transport.ts';

/** Where a request stands in its queue. */
export interface QueuePlace {
  readonly numAhead: number;
  /** Requests that its workers finish; 0 when nothing is measured yet. */
  readonly ratePerSecond: number;
}

export interface JobQuery {
  readonly tenant: TenantId;
  /** The job to go on after; `null` to begin with the newest. */
  readonly after: string | null;
  readonly limit: number;
  /** `null` for any, as for the endpoint. */
  readonly status: RequestStatus | null;
  readonly endpoint: Job['endpoint'] | null;
  /** What a job's metadata must hold. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface JobPage {
  readonly jobs: readonly RequestState[];
  /** The last job that was looked at; to go on after, while `hasMore`. */
  readonly lastId: string | null;
  readonly hasMore: boolean;
}

/** `untold`: its webhook is to be told of its end first. */
export const forgetReplySchema = z.enum(['forgotten', 'untold', 'open', 'unknown']);
export type ForgetReply = z.infer<typeof forgetReplySchema>;

/** What clients want of requests that nobody waits for. All calls may be sent again. */
export interface JobStore {
  /**
   * Queues a background request, and lists it among its tenant's.
   *
   * @returns what the request is: where its id was known, the job that was queued first
   * @throws {PlatformError} as `Transport.submit`
   */
  enqueue(job: Job): Promise<Job>;

  /** One that waits beyond its deadline has expired by the time this resolves. */
  find(id: RequestId): Promise<RequestState | null>;

  /** @returns `null` when it does not wait */
  place(job: Job): Promise<QueuePlace | null>;

  /**
   * Newest first. Looks at a limited number of jobs, so that a page may hold fewer than there are.
   *
   * @throws {PlatformError} `invalid_request` when `after` is none of the tenant's jobs
   */
  list(query: JobQuery): Promise<JobPage>;

  /** Forgets an ended request with all that belongs to it. */
  forget(job: Job): Promise<ForgetReply>;
}

/** Of what a page of jobs may show, whether one is to be shown. */
export function isWanted({ job, status }: RequestState, query: JobQuery): boolean {
  if (job.tenant !== query.tenant) return false;
  if (query.status !== null && status !== query.status) return false;
  if (query.endpoint !== null && job.endpoint !== query.endpoint) return false;
  return Object.entries(query.metadata).every(([key, value]) => job.metadata?.[key] === value);
}
