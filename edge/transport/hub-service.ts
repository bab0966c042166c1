import type { LoggedEvent } from '../../shared/protocol/event.ts';
import {
  encodeError,
  encodeFrame,
  type Frame,
  type HubPlainCall,
  type HubStreamCall,
  hubCallSchema,
  KNOWN_HEADER,
} from './hub-protocol.ts';
import { answerJobs } from './jobs-protocol.ts';
import { answerNotices } from './notices-protocol.ts';
import { answerStore } from './stores-protocol.ts';
import type { Transport } from './transport.ts';

export interface HubServiceOptions {
  /** The transport that answers; asked for with every call. */
  readonly connect: () => Promise<Transport>;
  /** Called when no call is left that is not answered to its end. */
  readonly onIdle: () => void;
}

/** Answers the calls of `HubTransport`s with a transport on this side. */
export class HubService {
  readonly #connect: () => Promise<Transport>;
  readonly #onIdle: () => void;
  readonly #leaveByStream = new Map<string, () => void>();
  #numCalls = 0;

  constructor({ connect, onIdle }: HubServiceOptions) {
    this.#connect = connect;
    this.#onIdle = onIdle;
  }

  async serve(request: Request): Promise<Response> {
    this.#numCalls += 1;
    try {
      const call = hubCallSchema.parse(await request.json());
      const transport = await this.#connect();
      if (call.type === 'submit' || call.type === 'open') {
        return await this.#stream(transport, call, request.signal);
      }
      if (call.type === 'noteLeft') {
        for (const stream of call.streams) this.#leaveByStream.get(stream)?.();
      }
      const value = (await answer(transport, call)) ?? null;
      this.#endCall();
      return Response.json(value);
    } catch (error) {
      this.#endCall();
      return new Response(encodeError(error), { status: 500 });
    }
  }

  /** @param callerSignal aborts when the caller is gone, on platforms that notice it so */
  async #stream(
    transport: Transport,
    call: HubStreamCall,
    callerSignal: AbortSignal,
  ): Promise<Response> {
    const reading = new AbortController();
    const { signal } = reading;
    const { events, isKnown } = await begin(transport, call, signal);
    const leave = () => {
      if (signal.aborted) return;
      callerSignal.removeEventListener('abort', leave);
      this.#leaveByStream.delete(call.stream);
      reading.abort();
      this.#endCall();
    };
    this.#leaveByStream.set(call.stream, leave);
    // Not before: a job that is on its way is queued, whoever waits for it.
    callerSignal.addEventListener('abort', leave);
    if (callerSignal.aborted) leave();
    const headers = isKnown ? { [KNOWN_HEADER]: '1' } : {};
    return new Response(toBody(events, leave), { headers });
  }

  #endCall(): void {
    this.#numCalls -= 1;
    if (this.#numCalls === 0) this.#onIdle();
  }
}

async function begin(transport: Transport, call: HubStreamCall, signal: AbortSignal) {
  if (call.type === 'open') {
    return { events: await transport.open(call.id, call.after, signal), isKnown: true };
  }
  const events = await transport.submit(call.job, signal);
  return { events, isKnown: events.job !== call.job };
}

function answer(transport: Transport, call: HubPlainCall): Promise<unknown> {
  switch (call.type) {
    case 'models':
      return transport.models();
    case 'tokenizerFiles':
      return transport.tokenizerFiles(call.digest);
    case 'reserved':
      return transport.reserved(call.call);
    case 'reserve':
      return transport.reserve(call.reservation);
    case 'request':
      return transport.request(call.id);
    case 'cancel':
      return transport.cancel(call.id);
    case 'noteLeft':
      return transport.noteLeft(call.id);
    case 'readersOf':
      return transport.readersOf(call.id);
    case 'ping':
      return transport.ping();
    case 'store':
      return answerStore(transport, call.call);
    case 'jobs':
      return answerJobs(transport.jobs, call.call);
    case 'notices':
      return answerNotices(transport.notices, call.call);
  }
}

/** Hands over a frame whenever the caller has room for one. */
function toBody(events: AsyncIterable<LoggedEvent>, leave: () => void): ReadableStream<Uint8Array> {
  const iterator = events[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const frame = await nextFrame(iterator);
        controller.enqueue(encoder.encode(encodeFrame(frame)));
        if (frame.type === 'event') return;
        leave();
        controller.close();
      },
      cancel: leave,
    },
    { highWaterMark: 0 },
  );
}

async function nextFrame(events: AsyncIterator<LoggedEvent>): Promise<Frame> {
  try {
    const { done, value } = await events.next();
    return done ? { type: 'end' } : { type: 'event', logged: value };
  } catch (error) {
    return { type: 'error', error };
  }
}
