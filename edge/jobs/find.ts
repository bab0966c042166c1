import type { Context } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import { isRequestId } from '../../shared/ids.ts';
import { toErrorBody } from '../../shared/openai/error-body.ts';
import { type Outcome, toOutcome } from '../../shared/openai/outcome.ts';
import type { EventId } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { AppEnv } from '../app.ts';
import type { RequestState } from '../transport/transport.ts';
import { toJobObject, toPlaceObject } from './job-object.ts';

/**
 * Another tenant's job is as unknown as none at all, and so is a request that somebody waits for.
 */
export async function findJob(
  c: Context<AppEnv>,
  id: string = c.req.param('id') ?? '',
): Promise<RequestState> {
  if (!isRequestId(id)) throw notFound(id);
  c.set('requestId', id);
  const state = await c.var.transport.jobs.find(id);
  const isVisible = state?.job.background === true && state.job.tenant === c.var.tenant;
  if (state === null || !isVisible) throw notFound(id);
  return state;
}

export function notFound(id: string): PlatformError {
  const message = `the job ${JSON.stringify(id.slice(0, 80))} does not exist or is no longer kept`;
  return new PlatformError('not_found', message, { param: 'id' });
}

/** All there is to know of a job: where it stands while it waits, and what came of it. */
export async function describeJob(c: Context<AppEnv>, state: RequestState) {
  const { options, transport } = c.var;
  const place = state.status === 'queued' ? await transport.jobs.place(state.job) : null;
  const { error, ...outcome } = state.timesMs.ended === null ? OPEN : await outcomeOf(c, state);
  return {
    ...toJobObject(state),
    ...toPlaceObject(place, options.now()),
    ...outcome,
    error: error && toErrorBody(error).error,
  };
}

/** What is known of a job without asking: that it was queued. */
export function describeQueued(job: Job) {
  const timesMs = { created: job.createdMs, started: null, ended: null };
  const state = {
    id: job.id,
    status: 'queued',
    job,
    epoch: 0,
    numEvents: 0,
    timesMs,
    trimmed: null,
  } as const;
  return { ...toJobObject(state), ...toPlaceObject(null, job.createdMs), ...OPEN };
}

const OPEN: Outcome = { usage: null, result: null, error: null };

async function outcomeOf(
  c: Context<AppEnv>,
  { id, job, epoch, numEvents }: RequestState,
): Promise<Outcome> {
  const { signal } = c.req.raw;
  const read = async (after: EventId | null) =>
    toOutcome(await c.var.transport.open(id, after, signal), job);
  try {
    return await read(null);
  } catch (error) {
    if (!(error instanceof PlatformError) || error.code !== 'events_trimmed') throw error;
    return read({ epoch, seq: numEvents - 2 }); // the last event has the usage
  }
}
