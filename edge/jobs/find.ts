import type { Context } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import { isRequestId } from '../../shared/ids.ts';
import { toUsage } from '../../shared/openai/chunks.ts';
import { collect, toErrorOptions } from '../../shared/openai/collect.ts';
import type { LoggedEvent } from '../../shared/protocol/event.ts';
import type { AppEnv } from '../app.ts';
import { toErrorBody } from '../errors.ts';
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
  const outcome = state.timesMs.ended === null ? NO_OUTCOME : await outcomeOf(c, state);
  return { ...toJobObject(state), ...toPlaceObject(place, options.now()), ...outcome };
}

interface Outcome {
  readonly usage: object | null;
  /**
   * What a plain answer would have been: the whole of it, or what there was when it was cut short.
   */
  readonly result: object | null;
  readonly error: object | null;
}

const NO_OUTCOME: Outcome = { usage: null, result: null, error: null };

async function outcomeOf(c: Context<AppEnv>, { id, job }: RequestState): Promise<Outcome> {
  const events: LoggedEvent[] = [];
  const { signal } = c.req.raw;
  try {
    for await (const event of await c.var.transport.open(id, null, signal)) events.push(event);
  } catch (error) {
    if (!(error instanceof PlatformError) || error.code !== 'events_trimmed') throw error;
    // An endless answer, of which only the end is kept.
    return { ...NO_OUTCOME, error: toErrorBody(error).error };
  }
  const last = events.at(-1)?.event;
  if (last?.type === 'error') {
    const { code, message, param } = last;
    const error = new PlatformError(code, message, toErrorOptions(param));
    return { ...NO_OUTCOME, error: toErrorBody(error).error };
  }
  const usage = last?.type === 'done' ? toUsage(last.usage) : null;
  return { usage, result: await collect(iterate(events), job), error: null };
}

async function* iterate<Value>(values: readonly Value[]): AsyncGenerator<Value> {
  yield* values;
}
