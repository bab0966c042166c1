import { z } from 'zod';

export const JOB_NOTICES = [
  'job.queued',
  'job.started',
  'job.output',
  'job.succeeded',
  'job.failed',
  'job.cancelled',
  'job.expired',
] as const;
export type JobNotice = (typeof JOB_NOTICES)[number];

export const TERMINAL_NOTICES = [
  'job.succeeded',
  'job.failed',
  'job.cancelled',
  'job.expired',
] as const satisfies readonly JobNotice[];

/** What there is to say of a batch: how it ended. */
export const BATCH_NOTICES = [
  'batch.completed',
  'batch.failed',
  'batch.expired',
  'batch.cancelled',
] as const;

export function isTerminalNotice(type: string): boolean {
  return TERMINAL_NOTICES.some((terminal) => terminal === type);
}

/** Who is told, and of what, as it is stored: checked before (webhook-request.ts). */
export const webhookSchema = z.object({
  url: z.string(),
  events: z.array(z.string()),
  /** One or several `whsec_` secrets, joined by spaces, each of which signs. */
  secret: z.string().optional(),
  /** `thin` bodies name the job, `full` ones hold its answer as well. */
  payload: z.enum(['thin', 'full']),
});

export type Webhook = z.infer<typeof webhookSchema>;

/** A transition of a request, as its own scripts wrote it down. `job.output` is no transition. */
export const outboxEntrySchema = z.object({
  /** Place in the outbox, from 0. */
  n: z.int().nonnegative(),
  type: z.enum(JOB_NOTICES).exclude(['job.output']),
  atMs: z.number(),
});

export type OutboxEntry = z.infer<typeof outboxEntrySchema>;

/** The same for every delivery of an entry, so that receivers can drop what they have had. */
export function webhookIdOf(requestId: string, { n }: Pick<OutboxEntry, 'n'>): string {
  return `msg_${requestId}_${n}`;
}

/** A notice among its tenant's events, for receivers that were down. */
export const listedNoticeSchema = z.object({
  webhookId: z.string(),
  /** The request or batch that it is about. */
  requestId: z.string(),
  type: z.string(),
  atMs: z.number(),
  /** What a thin body has under `data`. */
  data: z.record(z.string(), z.unknown()),
});

export type ListedNotice = z.infer<typeof listedNoticeSchema>;

/** What became of one attempt to deliver a notice. */
export const deliveryAttemptSchema = z.object({
  webhookId: z.string(),
  type: z.string(),
  atMs: z.number(),
  /** HTTP status; `null` when there was no answer. */
  status: z.int().nullable(),
  /** Why there was no good answer; `null` when there was. */
  error: z.string().nullable(),
  durationMs: z.number(),
  /** The beginning of the answer's body. */
  answer: z.string(),
});

export type DeliveryAttempt = z.infer<typeof deliveryAttemptSchema>;

/** How long a delivery that was given up can be seen, and sent again. */
export const DEAD_LETTERS_FOR_MS = 30 * 24 * 3_600_000;

/** A delivery that nobody tries again by itself. */
export const deadLetterSchema = z.object({
  webhookId: z.string(),
  requestId: z.string(),
  type: z.string(),
  url: z.string(),
  /** When it was given up. */
  atMs: z.number(),
  numAttempts: z.int().nonnegative(),
  /** Of the last attempt, as is `error`. */
  status: z.int().nullable(),
  error: z.string().nullable(),
});

export type DeadLetter = z.infer<typeof deadLetterSchema>;

/** A notice as the world sees it: the body of a delivery, and an entry of the list of events. */
export function toEventObject({ webhookId, type, atMs, data }: Omit<ListedNotice, 'requestId'>) {
  return {
    id: webhookId,
    object: 'event',
    type,
    timestamp: new Date(atMs).toISOString(),
    created_at: Math.floor(atMs / 1000),
    data,
  } as const;
}
