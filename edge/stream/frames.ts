import type { CharacterCount } from '../../shared/characters.ts';
import { PlatformError } from '../../shared/errors.ts';
import { createChunkEncoder } from '../../shared/openai/chunks.ts';
import { toErrorOptions } from '../../shared/openai/collect.ts';
import { toErrorBody } from '../../shared/openai/error-body.ts';
import {
  type ErrorEvent,
  type EventId,
  encodeEventId,
  eventLost,
  isLater,
  isRewritten,
  isTerminal,
  type LoggedEvent,
} from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';

/** A line that means nothing, so that nobody in between takes the silence for an end. */
export const HEARTBEAT = ': heartbeat\n\n';

export interface FrameOptions {
  /** The last frame the client has; `null` for none. */
  readonly after: EventId | null;
  /** [numChoices], of what came before the first of the events; none for all of them. */
  readonly counts?: readonly CharacterCount[];
  /** Whether the request is known to have ended with an error. */
  readonly hasFailed: boolean;
  /** What to tell the client about something thrown while events were read. */
  readonly toPlatformError: (error: unknown) => PlatformError;
  /** Aborts when nobody reads any longer: events then end early. */
  readonly signal: AbortSignal;
}

/**
 * A request's events as the frames of its stream, whoever reads them and however often: one for
 * each event with a choice, the usage if it was asked for, `[DONE]`. A failure is the last frame.
 *
 * Each frame's id is that of its event. Chunks that come before the first event have ids of epoch
 * 0, which no claim has.
 */
export async function* toFrames(
  events: AsyncIterable<LoggedEvent>,
  job: Job,
  { after, counts = [], hasFailed, toPlatformError, signal }: FrameOptions,
): AsyncGenerator<string> {
  const encoder = createChunkEncoder(job, counts);
  for (const [seq, chunk] of encoder.opening.entries()) {
    const id = { epoch: 0, seq };
    if (isLater(id, after)) yield encodeFrame(id, JSON.stringify(chunk));
  }
  let numEvents = 0;
  try {
    for await (const { id, event } of events) {
      numEvents += 1;
      if (after !== null && after.epoch > 0 && isRewritten(id, after)) throw eventLost(after);
      const chunks = event.type === 'error' ? [toErrorChunk(event)] : encoder.encode(event);
      if (isLater(id, after)) {
        for (const chunk of chunks) yield encodeFrame(id, JSON.stringify(chunk));
      }
      if (event.type === 'done') yield encodeFrame(id, '[DONE]');
      if (isTerminal(event)) return;
    }
    if (signal.aborted) return;
    if (after !== null && numEvents === 0) {
      if (!hasFailed) yield encodeFrame(after, '[DONE]');
      return;
    }
    throw new PlatformError('worker_lost', 'the events ended before the answer did');
  } catch (error) {
    // Without an id: the client can come back for what it has not seen.
    yield encodeFrame(null, JSON.stringify(toErrorBody(toPlatformError(error))));
  }
}

/** JSON escapes line breaks, so `data` is one line. */
function encodeFrame(id: EventId | null, data: string): string {
  return id === null ? `data: ${data}\n\n` : `id: ${encodeEventId(id)}\ndata: ${data}\n\n`;
}

function toErrorChunk({ code, message, param }: ErrorEvent): object {
  return toErrorBody(new PlatformError(code, message, toErrorOptions(param)));
}
