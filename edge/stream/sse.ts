import { IDLE, IdleClock } from '../../shared/idle-clock.ts';
import { HEARTBEAT } from './frames.ts';

export interface SseOptions {
  /** How long the stream may be silent before a heartbeat. */
  readonly heartbeatMs: number;
  /** Called when the client goes away before the end. */
  readonly onDisconnect: () => void;
  /** Called after the last frame. */
  readonly onEnd: () => void;
}

/** Of every response with such a body. */
export const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const;

/** Hands frames to the client as fast as it reads them, and no faster. */
export function createSseBody(
  frames: AsyncIterator<string>,
  options: SseOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const clock = new IdleClock(options.heartbeatMs);
  let pending: Promise<IteratorResult<string>> | null = null;

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        pending ??= frames.next();
        const result = await clock.orIdle(pending);
        if (result === IDLE) {
          controller.enqueue(encoder.encode(HEARTBEAT));
          return;
        }
        pending = null;
        if (!result.done) {
          controller.enqueue(encoder.encode(result.value));
          return;
        }
        clock.stop();
        options.onEnd();
        controller.close();
      },
      // Not frames.return(): it would queue behind the next() that is still waiting for a token.
      cancel() {
        clock.stop();
        options.onDisconnect();
      },
    },
    { highWaterMark: 0 },
  );
}
