import type { RequestId, TenantId } from '../../shared/ids.ts';
import type { EventId, LoggedEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { END_STATUSES, type TrimmedLog } from '../../shared/protocol/request-scripts.ts';
import type { BatchStore } from './batches.ts';
import type { FileStore } from './files.ts';
import type { JobStore } from './jobs.ts';
import type { NoticeStore } from './notices.ts';

/** A registered model, under one of the fingerprints that serve it. */
export interface ServedModel {
  readonly card: ModelCard;
  /** Workers that said they are alive within the last few seconds; 0 when all are gone. */
  readonly numWorkers: number;
}

export const REQUEST_STATUSES = ['queued', 'running', ...END_STATUSES] as const;
export type RequestStatus = (typeof REQUEST_STATUSES)[number];

export interface RequestState {
  readonly id: RequestId;
  readonly status: RequestStatus;
  readonly job: Job;
  /** How often a worker has claimed it. */
  readonly epoch: number;
  /** What its log has come to hold, whether or not it still does. */
  readonly numEvents: number;
  /** By the clock of Redis; `null` for what has not happened. */
  readonly timesMs: {
    readonly created: number;
    /** Its first claim. */
    readonly started: number | null;
    readonly ended: number | null;
  };
  /** Where its log begins; `null` while all of it is kept. */
  readonly trimmed: TrimmedLog | null;
}

/** A call that its client has a name for, so that a retry is not a second one. */
export interface KeyedCall {
  readonly tenant: TenantId;
  /** sha256 of the `Idempotency-Key`. */
  readonly key: string;
  /** sha256 of the route and body that it stands for. */
  readonly digest: string;
}

export interface Reservation extends KeyedCall {
  /** The request, file or batch that it stands for from now on, if it is new. */
  readonly id: string;
  readonly lifeMs: number;
}

/** The events of a request, for whoever submitted it. */
export interface SubmittedEvents extends AsyncIterable<LoggedEvent> {
  /** What the request is: where its id was known, the job that was submitted first. */
  readonly job: Job;
}

export function submittedEvents(job: Job, events: AsyncIterable<LoggedEvent>): SubmittedEvents {
  return { job, [Symbol.asyncIterator]: () => events[Symbol.asyncIterator]() };
}

/** All that edge wants of the rest of the system. */
/** Over all replicas; none of either for an unknown request. */
export interface Readers {
  /** That have been noted as gone. */
  readonly numLeft: number;
  /** Connections, to whichever replica, that are told of the request's events. */
  readonly numListening: number;
}

export interface Transport {
  readonly files: FileStore;
  readonly batches: BatchStore;
  readonly jobs: JobStore;
  readonly notices: NoticeStore;

  /** Every model ever registered, one entry for each fingerprint. */
  models(): Promise<readonly ServedModel[]>;

  /** @throws {PlatformError} `unavailable` when no such files are stored */
  tokenizerFiles(digest: string): Promise<TokenizerFiles>;

  /**
   * Queues the job, already subscribed to its events: the first event cannot be missed. The
   * subscription ends with the last event or with `signal`. A request whose id is known stays what
   * it is.
   *
   * @throws {PlatformError} `unavailable` when Redis cannot be reached; `rate_limit_exceeded` or
   *   `deadline_exceeded` when the request is new and the queue too long for it
   */
  submit(job: Job, signal: AbortSignal): Promise<SubmittedEvents>;

  /**
   * Events after `after` (all for `null`), past ones first, up to the last event or until `signal`.
   *
   * @throws {PlatformError} `not_found` when the request is unknown or no longer kept
   */
  open(
    id: RequestId,
    after: EventId | null,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LoggedEvent>>;

  /**
   * @returns the id that the key stands for; `null` when nobody has reserved it
   * @throws {PlatformError} `idempotency_mismatch` when it stands for a call with another digest
   */
  reserved(call: KeyedCall): Promise<string | null>;

  /**
   * @returns the id that the key stands for: of whatever reserved it first
   * @throws {PlatformError} `idempotency_mismatch` when it stands for a call with another digest
   */
  reserve(reservation: Reservation): Promise<string>;

  request(id: RequestId): Promise<RequestState | null>;

  /**
   * Ends the request as soon as its worker hears of it. Idempotent. @returns its state, `null` if
   * unknown
   */
  cancel(id: RequestId): Promise<RequestState | null>;

  /**
   * Notes that a reader went away. @returns how many have, over all replicas; 0 for an unknown
   * request
   */
  noteLeft(id: RequestId): Promise<number>;

  readersOf(id: RequestId): Promise<Readers>;

  /** @throws {PlatformError} `unavailable` when Redis does not answer */
  ping(): Promise<void>;
}
