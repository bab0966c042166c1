import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { ENDPOINT_PATH, type Job } from '../../shared/protocol/job.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import {
  JOB_ENDPOINTS,
  parseJobRequest,
  toBodyError,
  toDeadlineError,
} from '../../shared/protocol/request-job.ts';
import { admit, setIgnoredHeader } from '../admit.ts';
import type { AppEnv } from '../app.ts';
import { readJson } from '../body.ts';
import { methodNotAllowed } from '../errors.ts';
import { firstIdOf } from '../idempotency.ts';
import { answerInBackground, waitForEnd } from '../jobs/background.ts';
import { describeJob, findJob, notFound } from '../jobs/find.ts';
import { toJobObject } from '../jobs/job-object.ts';
import type { ForgetReply } from '../transport/jobs.ts';
import { REQUEST_STATUSES } from '../transport/transport.ts';

export const jobs = new Hono<AppEnv>();

const METADATA_FILTER = /^metadata\[(.{1,64})\]$/;

/** A job that was deleted at its end is told of within two seconds, or not now. */
const FORGET_AGAIN_MS = 50;
const MAX_FORGET_TRIES = 40;

const listSchema = z.object({
  after: z.string().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  status: z.enum(REQUEST_STATUSES).optional(),
  endpoint: z.enum(JOB_ENDPOINTS).optional(),
});

jobs.post('/', async (c) => {
  const body = await readJson(c.req.raw, c.var.options.maxBodyBytes);
  const { request, ignored, envelope, deadlineParam } = parseJobRequest(body);
  setIgnoredHeader(c, ignored);
  const make = () =>
    admit(c, request).catch((error: unknown) => {
      throw toBodyError(error);
    });
  return answerInBackground(c, { envelope, body, make }).catch((error: unknown) => {
    throw toDeadlineError(error, deadlineParam);
  });
});

jobs.get('/', async (c) => {
  const query = c.req.query();
  const { after = null, limit, status = null, endpoint } = parseFields(listSchema, query);
  const metadata = Object.entries(query).flatMap(([name, value]) => {
    const key = METADATA_FILTER.exec(name)?.[1];
    return key === undefined ? [] : [[key, value] as const];
  });
  const page = await c.var.transport.jobs.list({
    tenant: c.var.tenant,
    after,
    limit,
    status,
    endpoint:
      endpoint === undefined ? null : endpoint === ENDPOINT_PATH.chat ? 'chat' : 'completions',
    metadata: Object.fromEntries(metadata),
  });
  const data = page.jobs.map(toJobObject);
  const { lastId: last_id, hasMore: has_more } = page;
  return c.json({ object: 'list', data, first_id: data[0]?.id ?? null, last_id, has_more });
});
jobs.all('/', methodNotAllowed('GET, POST'));

jobs.get('/:id', async (c) => {
  const state = await findJob(c);
  const isOpen = state.timesMs.ended === null;
  const hasWaited = isOpen && (await waitForEnd(c, state.id));
  return c.json(await describeJob(c, hasWaited ? await findJob(c) : state));
});

/** Its notices are on their way when it ends: that takes a moment, while somebody delivers. */
async function forgetOnceTold(c: Context<AppEnv>, job: Job): Promise<ForgetReply> {
  for (let numTries = 1; ; numTries += 1) {
    const reply = await c.var.transport.jobs.forget(job);
    if (reply !== 'untold' || numTries === MAX_FORGET_TRIES) return reply;
    await new Promise((resolve) => setTimeout(resolve, FORGET_AGAIN_MS));
  }
}

/** Of a job that is queued or runs nothing is forgotten: its end is still to come. */
jobs.delete('/:id', async (c) => {
  const { id, status, job } = await findJob(c);
  const end = await forgetOnceTold(c, job);
  if (end === 'unknown') throw notFound(id);
  if (end === 'forgotten') return c.json({ id, object: 'job', deleted: true });
  const message =
    end === 'open'
      ? `the job is ${status}; cancel it first (POST /v1/jobs/${id}/cancel)`
      : 'the job has ended, and its webhook is not yet told of it; try again';
  throw new PlatformError('conflict', message, { param: 'id' });
});
jobs.all('/:id', methodNotAllowed('GET, DELETE'));

jobs.post('/:id/cancel', async (c) => {
  const { id } = await findJob(c);
  await firstIdOf(c, id, null); // a key may not stand for another call; this one may be repeated
  await c.var.transport.cancel(id);
  return c.json(await describeJob(c, await findJob(c, id)));
});
jobs.all('/:id/cancel', methodNotAllowed('POST'));
