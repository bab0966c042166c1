import { z } from 'zod';
import { jobSchema } from '../../shared/protocol/job.ts';
import {
  deadLetterSchema,
  deliveryAttemptSchema,
  listedNoticeSchema,
} from '../../shared/protocol/webhook.ts';
import { pushedNoticeSchema } from '../../shared/protocol/webhook-outbox.ts';
import type { NoticeStore } from './notices.ts';
import { tenantSchema } from './state-protocol.ts';

const resentSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('job'), job: jobSchema, webhookId: z.string() }),
  z.object({ type: z.literal('batch'), notice: pushedNoticeSchema }),
  z.object({ type: z.literal('letter'), tenant: tenantSchema, webhookId: z.string() }),
]);

function pageQueryOf<Cursor extends z.ZodType>(cursor: Cursor) {
  return z.object({ tenant: tenantSchema, after: cursor.nullable(), limit: z.int() });
}

const letterCursorSchema = z.object({ atMs: z.number(), webhookId: z.string() });

/** One method of `NoticeStore`, with its arguments. */
export const noticeCallSchema = z.discriminatedUnion('method', [
  z.object({ method: z.literal('attempts'), subject: z.string() }),
  z.object({ method: z.literal('resend'), resent: resentSchema, nonce: z.string() }),
  z.object({ method: z.literal('deadLetter'), tenant: tenantSchema, webhookId: z.string() }),
  z.object({ method: z.literal('deadLetters'), query: pageQueryOf(letterCursorSchema) }),
  z.object({ method: z.literal('list'), query: pageQueryOf(z.string()) }),
]);

export type NoticeCall = z.infer<typeof noticeCallSchema>;

/** The hub's side. */
export function answerNotices(notices: NoticeStore, call: NoticeCall): Promise<unknown> {
  switch (call.method) {
    case 'attempts':
      return notices.attempts(call.subject);
    case 'resend':
      return notices.resend(call.resent, call.nonce);
    case 'deadLetter':
      return notices.deadLetter(call.tenant, call.webhookId);
    case 'deadLetters':
      return notices.deadLetters(call.query);
    case 'list':
      return notices.list(call.query);
  }
}

/** Asks a hub, and reads its answer with the schema. */
export type AskNotices = <Value>(call: NoticeCall, schema: z.ZodType<Value>) => Promise<Value>;

const replySchema = z.enum(['accepted', 'unknown', 'taken']);
const entriesSchema = z.array(z.object({ cursor: z.string(), notice: listedNoticeSchema }));

/** The same over a hub. */
export function createHubNotices(ask: AskNotices): NoticeStore {
  return {
    attempts: (subject) => ask({ method: 'attempts', subject }, z.array(deliveryAttemptSchema)),
    resend: (resent, nonce) => ask({ method: 'resend', resent, nonce }, replySchema),
    deadLetter: (tenant, webhookId) =>
      ask({ method: 'deadLetter', tenant, webhookId }, deadLetterSchema.nullable()),
    deadLetters: (query) => ask({ method: 'deadLetters', query }, z.array(deadLetterSchema)),
    list: (query) => ask({ method: 'list', query }, entriesSchema),
  };
}
