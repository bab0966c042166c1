import { z } from 'zod';
import { jobSchema } from '../../shared/protocol/job.ts';
import { forgetReplySchema, type JobStore } from './jobs.ts';
import { requestIdSchema, requestStateSchema, tenantSchema } from './state-protocol.ts';
import { REQUEST_STATUSES } from './transport.ts';

const jobQuerySchema = z.object({
  tenant: tenantSchema,
  after: z.string().nullable(),
  limit: z.int(),
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
  z.object({ method: z.literal('forget'), job: jobSchema }),
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
      return jobs.forget(call.job);
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

/** The same over a hub. */
export function createHubJobs(ask: AskJobs): JobStore {
  return {
    enqueue: (job) => ask({ method: 'enqueue', job }, jobSchema),
    find: (id) => ask({ method: 'find', id }, requestStateSchema.nullable()),
    place: (job) => ask({ method: 'place', job }, placeSchema),
    list: (query) => ask({ method: 'list', query }, jobPageSchema),
    forget: (job) => ask({ method: 'forget', job }, forgetReplySchema),
  };
}
