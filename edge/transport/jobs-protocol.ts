import { z } from 'zod';
import { jobSchema } from '../../shared/protocol/job.ts';
import {
  deadLetterSchema,
  deliveryAttemptSchema,
  listedNoticeSchema,
} from '../../shared/protocol/webhook.ts';
import type { JobStore } from './jobs.ts';
import { requestIdSchema, requestStateSchema, tenantSchema } from './state-protocol.ts';
import { REQUEST_STATUSES } from './transport.ts';

const pageQuerySchema = z.object({
  tenant: tenantSchema,
  after: z.string().nullable(),
  limit: z.int(),
});

const jobQuerySchema = pageQuerySchema.extend({
  status: z.enum(REQUEST_STATUSES).nullable(),
  endpoint: jobSchema.shape.endpoint.nullable(),
  metadata: z.record(z.string(), z.string()),
});

/** One method of `JobStore`, with its arguments. */
export const jobCallSchema = z.discriminatedUnion('method', [
  z.object({ method: z.literal('enqueue'), job: jobSchema }),
  z.object({ method: z.literal('find'), id: requestIdSchema }),
  z.object({ method: z.literal('place'), job: jobSchema }),
  z.object({ method: z.literal('list'), query: jobQuerySchema }),
  z.object({ method: z.literal('forget'), id: requestIdSchema }),
  z.object({ method: z.literal('deliveries'), id: requestIdSchema }),
  z.object({
    method: z.literal('redeliver'),
    job: jobSchema,
    webhookId: z.string(),
    nonce: z.string(),
  }),
  z.object({ method: z.literal('deadLetters'), query: pageQuerySchema }),
  z.object({ method: z.literal('notices'), query: pageQuerySchema }),
]);

export type JobCall = z.infer<typeof jobCallSchema>;

/** The hub's side. */
export function answerJobs(jobs: JobStore, call: JobCall): Promise<unknown> {
  switch (call.method) {
    case 'enqueue':
      return jobs.enqueue(call.job);
    case 'find':
      return jobs.find(call.id);
    case 'place':
      return jobs.place(call.job);
    case 'list':
      return jobs.list(call.query);
    case 'forget':
      return jobs.forget(call.id);
    case 'deliveries':
      return jobs.deliveries(call.id);
    case 'redeliver':
      return jobs.redeliver(call.job, call.webhookId, call.nonce);
    case 'deadLetters':
      return jobs.deadLetters(call.query);
    case 'notices':
      return jobs.notices(call.query);
  }
}

/** Asks a hub, and reads its answer with the schema. */
export type AskJobs = <Value>(call: JobCall, schema: z.ZodType<Value>) => Promise<Value>;

const jobPageSchema = z.object({
  jobs: z.array(requestStateSchema),
  lastId: z.string().nullable(),
  hasMore: z.boolean(),
});

const placeSchema = z.object({ numAhead: z.int(), ratePerSecond: z.number() }).nullable();

const noticesSchema = z.array(z.object({ cursor: z.string(), notice: listedNoticeSchema }));

/** The same over a hub. */
export function createHubJobs(ask: AskJobs): JobStore {
  return {
    enqueue: (job) => ask({ method: 'enqueue', job }, jobSchema),
    find: (id) => ask({ method: 'find', id }, requestStateSchema.nullable()),
    place: (job) => ask({ method: 'place', job }, placeSchema),
    list: (query) => ask({ method: 'list', query }, jobPageSchema),
    forget: (id) => ask({ method: 'forget', id }, z.enum(['forgotten', 'open', 'unknown'])),
    deliveries: (id) => ask({ method: 'deliveries', id }, z.array(deliveryAttemptSchema)),
    redeliver: (job, webhookId, nonce) =>
      ask({ method: 'redeliver', job, webhookId, nonce }, z.boolean()),
    deadLetters: (query) => ask({ method: 'deadLetters', query }, z.array(deadLetterSchema)),
    notices: (query) => ask({ method: 'notices', query }, noticesSchema),
  };
}
