import { type Context, Hono } from 'hono';
import { PlatformError } from '../../shared/errors.ts';
import { isRequestId } from '../../shared/ids.ts';
import { createChunkEncoder } from '../../shared/openai/chunks.ts';
import { type EventId, parseEventId } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { TrimmedLog } from '../../shared/protocol/request-scripts.ts';
import { abandon } from '../abandon.ts';
import type { AppEnv } from '../app.ts';
import { Connection } from '../connection.ts';
import { methodNotAllowed, toPlatformError } from '../errors.ts';
import { firstIdOf } from '../idempotency.ts';
import { toFrames } from '../stream/frames.ts';
import { createSseBody, SSE_HEADERS } from '../stream/sse.ts';
import type { RequestState } from '../transport/transport.ts';

export const requests = new Hono<AppEnv>();

requests.get('/:id', async (c) => c.json(toRequestObject(await findRequest(c))));
requests.all('/:id', methodNotAllowed('GET'));

requests.post('/:id/cancel', async (c) => {
  const { id } = await findRequest(c);
  await firstIdOf(c, id, null); // a key may not stand for another call; this one may be repeated
  const state = await c.var.transport.cancel(id);
  if (state === null) throw notFound(id);
  return c.json(toRequestObject(state));
});
requests.all('/:id/cancel', methodNotAllowed('POST'));

/**
 * The request's stream again, from any frame on. Whoever reads here is a reader like the first one.
 */
requests.get('/:id/events', async (c) => {
  const after = parseLastEventId(c);
  const { id, job, status, trimmed } = await findRequest(c);
  if (c.req.method === 'HEAD') return c.body(null, 200, SSE_HEADERS);
  const connection = new Connection(c.req.raw.signal, () => abandon(c, job, Promise.resolve()));
  const { from, counts } = beginningFor(after, job, trimmed);
  const events = await c.var.transport.open(id, from, connection.signal);
  const frames = toFrames(events, job, {
    after,
    counts,
    hasFailed: status === 'failed',
    signal: connection.signal,
    toPlatformError: (error) => toPlatformError(error, c),
  });
  const { heartbeatMs } = c.var.options;
  const { leave: onDisconnect, finish: onEnd } = connection;
  return c.body(createSseBody(frames, { heartbeatMs, onDisconnect, onEnd }), 200, SSE_HEADERS);
});
requests.all('/:id/events', methodNotAllowed('GET'));

/**
 * The event after which to read, so that what follows `after` can be encoded, and what has to be
 * known of those before. Where the log was cut it begins there, if enough is known.
 */
function beginningFor(after: EventId | null, job: Job, trimmed: TrimmedLog | null) {
  const whole = { from: null, counts: [] };
  if (after === null || after.epoch === 0) return whole;
  if (!createChunkEncoder(job).isStateful) return { from: after, counts: [] };
  if (trimmed === null || after.seq < trimmed.to - 1) return whole;
  const counts = trimmed.choices.flatMap(({ characters = [] }) => characters);
  if (counts.length < trimmed.choices.length) return whole;
  return { from: { epoch: 0, seq: trimmed.to - 1 }, counts };
}

/** Another tenant's request is as unknown as none at all. */
async function findRequest(c: Context<AppEnv>): Promise<RequestState> {
  const id = c.req.param('id') ?? '';
  if (!isRequestId(id)) throw notFound(id);
  c.set('requestId', id);
  const state = await c.var.transport.request(id);
  if (state === null || state.job.tenant !== c.var.tenant) throw notFound(id);
  return state;
}

function notFound(id: string): PlatformError {
  const message = `the request ${JSON.stringify(id.slice(0, 80))} does not exist or is no longer kept`;
  return new PlatformError('not_found', message, { param: 'id' });
}

function parseLastEventId(c: Context<AppEnv>): EventId | null {
  const text = c.req.header('last-event-id') ?? '';
  if (text === '') return null;
  const id = parseEventId(text);
  if (id !== null) return id;
  const message = `Last-Event-ID is ${JSON.stringify(text.slice(0, 80))}; it must be the id of an event, as in 1-42`;
  throw new PlatformError('invalid_request', message, { param: 'Last-Event-ID' });
}

function toRequestObject({ id, status, epoch, job }: RequestState) {
  return {
    id,
    object: 'request',
    status,
    endpoint: job.endpoint === 'chat' ? '/v1/chat/completions' : '/v1/completions',
    model: job.model,
    system_fingerprint: job.fingerprint,
    seed: job.sampling.seed,
    created: Math.floor(job.createdMs / 1000),
    expires_at: job.deadlineMs === null ? null : Math.ceil(job.deadlineMs / 1000),
    stream: job.stream,
    epoch,
  };
}
