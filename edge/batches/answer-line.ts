import { setTimeout as sleep } from 'node:timers/promises';
import { PlatformError } from '../../shared/errors.ts';
import { collect } from '../../shared/openai/collect.ts';
import { statusOf, toErrorBody } from '../../shared/openai/error-body.ts';
import type { Batch } from '../../shared/protocol/batch.ts';
import type { LoggedEvent, RequestEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { ModelCatalog } from '../catalog.ts';
import type { Log } from '../log.ts';
import { newJob } from '../new-job.ts';
import type { Transport } from '../transport/transport.ts';
import { type LineRequest, parseBody, parseLine, requestIdOf, seedOf } from './line-request.ts';
import type { Line } from './lines.ts';

export interface LineContext {
  readonly transport: Transport;
  readonly catalog: ModelCatalog;
  readonly log: Log;
  /** Nobody wants the answer any more: what has begun is cancelled. */
  readonly givenUp: AbortSignal;
  /** This process is to end: another goes on where we leave it. */
  readonly stopped: AbortSignal;
}

/**
 * What becomes of a line: a line of one of the two files; `undone` when it was given up before it
 * was done.
 */
export type LineAnswer =
  | { readonly type: 'completed' | 'failed'; readonly text: string }
  | { readonly type: 'undone' };

const UNDONE: LineAnswer = { type: 'undone' };

/** A worker that is there ends a cancelled request in much less. */
const CANCEL_WITHIN_MS = 20_000;
const RETRY_MS = 1000;
/** Of one line, with what stands around a token that is shown with its probability. */
const MAX_ANSWER = 16 * 1024 * 1024;
const LOGPROB_CHARACTERS = 80;
/** However long the queue is: it may move faster than was reckoned. */
const MAX_WAIT_MS = 5000;

/** Not now, but later: the line waits. Anything else is its answer. */
const WAITING: ReadonlySet<string> = new Set([
  'rate_limit_exceeded',
  'overloaded',
  'no_worker',
  'unavailable',
]);

/**
 * Makes a line a request and waits for its answer.
 *
 * @param mayBeKnown whether a runner before us may have submitted it: it then stays what it was
 *   made then
 */
export async function answerLine(
  { spec }: Batch,
  line: Line,
  mayBeKnown: boolean,
  context: LineContext,
): Promise<LineAnswer> {
  const { customId, body } = parseLine(line, spec.endpoint);
  const id = requestIdOf(spec.id, line.number);
  const toText = (status: number, answer: object) =>
    toLineText(id, customId, { status_code: status, request_id: id, body: answer });
  for (let isKnown = mayBeKnown; ; isKnown = true) {
    if (context.givenUp.aborted || context.stopped.aborted) return UNDONE;
    try {
      const known = isKnown ? await context.transport.request(id) : null;
      const job = known?.job ?? (await toJob({ customId, body }, line, spec, context));
      const answer = await answerOf(job, context);
      return answer === null ? UNDONE : { type: 'completed', text: toText(200, answer) };
    } catch (error) {
      if (context.stopped.aborted) return UNDONE;
      const failure = toPlatformError(error, context.log, id);
      if (!WAITING.has(failure.code)) {
        return { type: 'failed', text: toText(statusOf(failure.code), toErrorBody(failure)) };
      }
      const waitMs = (failure.retryAfterSeconds ?? 0) * 1000 || RETRY_MS;
      await sleep(Math.min(waitMs, MAX_WAIT_MS));
    }
  }
}

async function toJob(
  request: LineRequest,
  line: Line,
  spec: Batch['spec'],
  { transport, catalog }: LineContext,
): Promise<Job> {
  const id = requestIdOf(spec.id, line.number);
  const generation = { ...parseBody(request, spec.endpoint), isBackground: true };
  const made = await newJob(generation, {
    transport,
    catalog,
    id,
    tenant: spec.tenant,
    nowMs: Date.now(),
    drawSeed: () => seedOf(id),
  });
  // Between two runners nobody listens.
  return { ...made, class: 'batch', background: true, onDisconnect: 'continue' };
}

/** @returns `null` when it was cancelled before its end */
async function answerOf(job: Job, context: LineContext): Promise<object | null> {
  const { transport, givenUp, stopped } = context;
  const reading = new AbortController();
  const leave = () => reading.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const cancel = () => {
    timer = setTimeout(leave, CANCEL_WITHIN_MS);
    transport.cancel(job.id).catch(() => undefined); // it ends by itself, or is late
  };
  stopped.addEventListener('abort', leave);
  try {
    const events = await transport.submit(job, reading.signal);
    givenUp.addEventListener('abort', cancel);
    if (givenUp.aborted) cancel();
    const answer = await collect(withinLimit(events), job);
    if (!givenUp.aborted) return answer;
    const state = await transport.request(job.id);
    return state?.status === 'succeeded' ? answer : null;
  } catch (error) {
    if (givenUp.aborted) return null;
    if (isTooLong(error)) await transport.cancel(job.id);
    throw error;
  } finally {
    stopped.removeEventListener('abort', leave);
    givenUp.removeEventListener('abort', cancel);
    clearTimeout(timer);
  }
}

/** @throws {PlatformError} `payload_too_large` when they are more than a line's answer may be */
async function* withinLimit(events: AsyncIterable<LoggedEvent>): AsyncGenerator<LoggedEvent> {
  let length = 0;
  for await (const logged of events) {
    yield logged;
    length += lengthOf(logged.event);
    if (length <= MAX_ANSWER) continue;
    const message = `the answer has more than ${MAX_ANSWER} characters; ask for less in one line`;
    throw new PlatformError('payload_too_large', message);
  }
}

function lengthOf(event: RequestEvent): number {
  if (event.type !== 'tokens' && event.type !== 'echo') return 0;
  const numShown = (event.logprobs ?? []).reduce((sum, { top }) => sum + 1 + top.length, 0);
  return event.text.length + LOGPROB_CHARACTERS * numShown;
}

function isTooLong(error: unknown): boolean {
  return error instanceof PlatformError && error.code === 'payload_too_large';
}

/** A line that the batch's window was too short for. */
export function expiredLine(batch: Batch, line: Line): LineAnswer {
  const { customId } = parseLine(line, batch.spec.endpoint);
  const id = requestIdOf(batch.spec.id, line.number);
  const error = {
    code: 'batch_expired',
    message: 'the completion window ended before this request was done',
  };
  return { type: 'failed', text: toLineText(id, customId, null, error) };
}

function toLineText(
  id: string,
  customId: string,
  response: object | null,
  error: object | null = null,
): string {
  const name = `batch_${id.replace('-', '_')}`;
  return `${JSON.stringify({ id: name, custom_id: customId, response, error })}\n`;
}

function toPlatformError(error: unknown, log: Log, id: string): PlatformError {
  if (error instanceof PlatformError) return error;
  log('line_crashed', { id, cause: error });
  return new PlatformError('internal', 'internal error', { cause: error });
}
