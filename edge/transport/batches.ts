import type { TenantId } from '../../shared/ids.ts';
import type {
  Batch,
  BatchError,
  BatchProgress,
  BatchSpec,
  BatchStatus,
} from '../../shared/protocol/batch.ts';
import type { StoredFile } from '../../shared/protocol/file.ts';

export interface BatchQuery {
  readonly tenant: TenantId;
  readonly after: string | null;
  readonly limit: number;
}

/** What clients want of batches. All calls may be sent again. */
export interface BatchStore {
  /**
   * Makes a batch known and queues it for a runner: behind as many rounds of others' as its tenant
   * has open.
   *
   * @param maxOpen batches of its tenant that may be open
   * @throws {PlatformError} `rate_limit_exceeded` when there are as many
   */
  create(spec: BatchSpec, maxOpen: number): Promise<void>;
  find(id: string): Promise<Batch | null>;
  /** Newest first. */
  list(query: BatchQuery): Promise<readonly Batch[]>;
  /** Ends a batch as soon as a runner hears of it; one that has ended stays as it is. */
  cancel(id: string): Promise<void>;
}

/** Where a writer stands: only `ok` wrote, or had written. */
export interface LedgerReply {
  readonly type: 'ok' | 'fenced' | 'unknown';
  /** `cancelling` once a client wants no more. */
  readonly status: BatchStatus;
}

export interface Commit {
  readonly progress: Omit<BatchProgress, 'outputBytes' | 'errorBytes'>;
  /** Lines of the two files. */
  readonly output: string;
  readonly errors: string;
}

export interface BatchEnd {
  readonly status: 'failed' | 'completed' | 'expired' | 'cancelled';
  readonly errors: readonly BatchError[];
  readonly output: StoredFile;
  readonly errorOutput: StoredFile;
}

/** What a runner writes, each under the epoch of its claim: an older one is refused. */
export interface BatchLedger {
  /** Fences out whoever ran it before. @returns `null` for a batch that is no longer kept */
  claim(id: string): Promise<Batch | null>;
  enter(batch: Batch, status: 'in_progress' | 'finalizing', numLines: number): Promise<LedgerReply>;
  /** Writes results and how far they reach, both or neither. */
  commit(batch: Batch, commit: Commit): Promise<LedgerReply>;
  /** Ends it and makes what it has written visible. Files without a line are not made. */
  end(batch: Batch, end: BatchEnd): Promise<LedgerReply>;
  /** Marks that its end is handed over: nobody need see to it any longer. */
  close(spec: BatchSpec): Promise<void>;
}

/** Batches that somebody must see to, runner or not. All calls may be sent again. */
export interface DueBatches {
  /** Lends out those that are due: for a minute, or until they are told otherwise. */
  take(): Promise<readonly string[]>;
  /** Whether a runner has it. */
  isRunning(id: string): Promise<boolean>;
  /** Lets it wait for a runner in the queue, and for its expiry. */
  wait(spec: BatchSpec): Promise<void>;
  /** Leaves one alone that nobody keeps. */
  drop(id: string): Promise<void>;
}
