import { z } from 'zod';
import { isRequestId, type RequestId, type TenantId } from '../../shared/ids.ts';
import { jobSchema } from '../../shared/protocol/job.ts';
import { choiceProgressSchema } from '../../shared/protocol/progress.ts';
import { REQUEST_STATUSES } from './transport.ts';

export const requestIdSchema = z.custom<RequestId>(
  (id) => typeof id === 'string' && isRequestId(id),
);

export const tenantSchema = z.custom<TenantId>((tenant) => typeof tenant === 'string');

export const requestStateSchema = z.object({
  id: requestIdSchema,
  status: z.enum(REQUEST_STATUSES),
  job: jobSchema,
  epoch: z.int().nonnegative(),
  numEvents: z.int().nonnegative(),
  timesMs: z.object({
    created: z.number(),
    started: z.number().nullable(),
    ended: z.number().nullable(),
  }),
  trimmed: z.object({ to: z.int(), choices: z.array(choiceProgressSchema) }).nullable(),
});
