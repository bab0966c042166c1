import type { TenantId } from '../../shared/ids.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { DeadLetter, DeliveryAttempt, ListedNotice } from '../../shared/protocol/webhook.ts';
import type { PushedNotice } from '../../shared/protocol/webhook-outbox.ts';

export interface PageQuery<Cursor> {
  readonly tenant: TenantId;
  /** What to go on after; `null` for the beginning. */
  readonly after: Cursor | null;
  readonly limit: number;
}

/** The place of a dead letter among those of its tenant, whether or not it is still there. */
export type LetterCursor = Pick<DeadLetter, 'atMs' | 'webhookId'>;

export interface NoticeEntry {
  /** To go on after. */
  readonly cursor: string;
  readonly notice: ListedNotice;
}

/** What is to be sent once more, and how it is known to be there. */
export type Resent =
  | { readonly type: 'job'; readonly job: Job; readonly webhookId: string }
  /** Of a batch that wants it: checked before. */
  | { readonly type: 'batch'; readonly notice: PushedNotice }
  | { readonly type: 'letter'; readonly tenant: TenantId; readonly webhookId: string };

/** `taken`: a piece of output that its receiver has taken; nobody keeps it any longer. */
export type ResendReply = 'accepted' | 'unknown' | 'taken';

/** What clients can see and repair of what they are told. All calls may be sent again. */
export interface NoticeStore {
  /** Attempts to tell of a request or batch, oldest first. */
  attempts(subject: string): Promise<readonly DeliveryAttempt[]>;

  /** Has a notice sent once more, or not again for the same `nonce`. */
  resend(resent: Resent, nonce: string): Promise<ResendReply>;

  /** @returns `null` for what was not given up, or no longer */
  deadLetter(tenant: TenantId, webhookId: string): Promise<DeadLetter | null>;

  /** Latest first. */
  deadLetters(query: PageQuery<LetterCursor>): Promise<readonly DeadLetter[]>;

  /**
   * Oldest first.
   *
   * @throws {PlatformError} `invalid_request` when `after` is no cursor, `events_trimmed` when
   *   notices that followed it are no longer kept
   */
  list(query: PageQuery<string>): Promise<readonly NoticeEntry[]>;
}
