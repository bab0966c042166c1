import type { Context } from 'hono';
import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { IDLE, IdleClock } from '../../shared/idle-clock.ts';
import { collect, toErrorOptions } from '../../shared/openai/collect.ts';
import type { LoggedEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { GenerationRequest, ParsedRequest } from '../../shared/protocol/request.ts';
import { parseFields } from '../../shared/protocol/request-issues.ts';
import { metadataSchema } from '../../shared/protocol/webhook-request.ts';
import { abandon, callOff } from '../abandon.ts';
import { admit, setIgnoredHeader, setSeedHeader } from '../admit.ts';
import type { AppEnv } from '../app.ts';
import { readJson } from '../body.ts';
import { Connection } from '../connection.ts';
import { toPlatformError } from '../errors.ts';
import { firstJobOf } from '../idempotency.ts';
import { answerInBackground } from '../jobs/background.ts';
import { continued } from '../stream/continued.ts';
import { toFrames } from '../stream/frames.ts';
import { createSseBody, SSE_HEADERS } from '../stream/sse.ts';
import type { SubmittedEvents } from '../transport/transport.ts';

type Parse = (body: unknown) => ParsedRequest<GenerationRequest>;

const metadataOnlySchema = z.object({ metadata: metadataSchema.nullish() });

/** For the log of a proxy: nobody is left to read it. */
const CLIENT_LEFT = 499;

/** Checks, queues and answers one request. */
export async function generate(c: Context<AppEnv>, parse: Parse): Promise<Response> {
  const body = await readJson(c.req.raw, c.var.options.maxBodyBytes);
  const { request, ignored } = parse(body);
  setIgnoredHeader(c, ignored);
  if (request.isBackground) {
    const { metadata } = parseFields(metadataOnlySchema, body);
    const envelope = { webhook: request.webhook, metadata: metadata ?? {} };
    return answerInBackground(c, { envelope, body, make: () => admit(c, request) });
  }
  return submit(c, await firstJobOf(c, body, () => admit(c, request)));
}

async function submit(c: Context<AppEnv>, own: Job): Promise<Response> {
  const submitted = Promise.withResolvers<void>();
  const onLeave = () => abandon(c, own, submitted.promise);
  const connection = new Connection(c.req.raw.signal, onLeave);
  try {
    const events = await submitOwn(c, own, connection.signal).finally(submitted.resolve);
    const { job } = events;
    setSeedHeader(c, job);
    if (job.stream) return await streamed(c, job, events, connection);
    const response = await collect(events, job);
    connection.finish();
    return c.json(response);
  } catch (error) {
    if (connection.signal.aborted) return new Response(null, { status: CLIENT_LEFT });
    connection.finish();
    throw error;
  }
}

async function submitOwn(
  c: Context<AppEnv>,
  job: Job,
  signal: AbortSignal,
): Promise<SubmittedEvents> {
  try {
    return await c.var.transport.submit(job, signal);
  } catch (error) {
    callOff(c, job, error);
    throw error;
  }
}

/**
 * A failure that comes before anything else, and before the first heartbeat is due, still gets its
 * status.
 */
async function streamed(
  c: Context<AppEnv>,
  job: Job,
  events: AsyncIterable<LoggedEvent>,
  connection: Connection,
): Promise<Response> {
  const { heartbeatMs } = c.var.options;
  const iterator = events[Symbol.asyncIterator]();
  const first = iterator.next();
  const clock = new IdleClock(heartbeatMs);
  const early = await clock.orIdle(first).finally(() => clock.stop());
  if (early !== IDLE && !early.done && early.value.event.type === 'error') {
    const { code, message, param } = early.value.event;
    throw new PlatformError(code, message, toErrorOptions(param));
  }
  const frames = toFrames(continued(first, iterator), job, {
    after: null,
    hasFailed: false,
    signal: connection.signal,
    toPlatformError: (error) => toPlatformError(error, c),
  });
  const { leave: onDisconnect, finish: onEnd } = connection;
  return c.body(createSseBody(frames, { heartbeatMs, onDisconnect, onEnd }), 200, SSE_HEADERS);
}
