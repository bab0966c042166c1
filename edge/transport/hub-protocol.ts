import { z } from 'zod';
import { ERROR_CODES, PlatformError } from '../../shared/errors.ts';
import {
  decodeEvent,
  encodeEvent,
  encodeEventId,
  type LoggedEvent,
  parseEventId,
} from '../../shared/protocol/event.ts';
import { jobSchema } from '../../shared/protocol/job.ts';
import { modelCardSchema } from '../../shared/protocol/model-card.ts';
import { jobCallSchema } from './jobs-protocol.ts';
import { noticeCallSchema } from './notices-protocol.ts';
import { requestIdSchema, tenantSchema } from './state-protocol.ts';
import { storeCallSchema } from './stores-protocol.ts';

const eventIdSchema = z.object({ epoch: z.int().nonnegative(), seq: z.int().nonnegative() });

/** The caller's name for one of its streams: any that is used once. */
const streamIdSchema = z.string();

const keyedCallSchema = z.object({ tenant: tenantSchema, key: z.string(), digest: z.string() });

const reservationSchema = keyedCallSchema.extend({ id: z.string(), lifeMs: z.number() });

/** What a hub is asked: one method of `Transport`, with its arguments. */
export const hubCallSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('models') }),
  z.object({ type: z.literal('tokenizerFiles'), digest: z.string() }),
  z.object({ type: z.literal('submit'), job: jobSchema, stream: streamIdSchema }),
  z.object({
    type: z.literal('open'),
    id: requestIdSchema,
    after: eventIdSchema.nullable(),
    stream: streamIdSchema,
  }),
  z.object({ type: z.literal('reserved'), call: keyedCallSchema }),
  z.object({ type: z.literal('reserve'), reservation: reservationSchema }),
  z.object({ type: z.literal('request'), id: requestIdSchema }),
  z.object({ type: z.literal('cancel'), id: requestIdSchema }),
  // Streams given up before: word of the call may be faster than word of their end.
  z.object({
    type: z.literal('noteLeft'),
    id: requestIdSchema,
    streams: z.array(streamIdSchema),
  }),
  z.object({ type: z.literal('readersOf'), id: requestIdSchema }),
  z.object({ type: z.literal('ping') }),
  z.object({ type: z.literal('store'), call: storeCallSchema }),
  z.object({ type: z.literal('jobs'), call: jobCallSchema }),
  z.object({ type: z.literal('notices'), call: noticeCallSchema }),
]);

export type HubCall = z.infer<typeof hubCallSchema>;
export const readersSchema = z.object({ numLeft: z.int(), numListening: z.int() });

/** Answered with events as they come: one frame a line. */
export type HubStreamCall = Extract<HubCall, { type: 'submit' | 'open' }>;
/** Answered with one JSON value. */
export type HubPlainCall = Exclude<HubCall, HubStreamCall>;

export const servedModelsSchema = z.array(
  z.object({ card: modelCardSchema, numWorkers: z.int().nonnegative() }),
);

const errorSchema = z.object({
  code: z.enum(ERROR_CODES),
  message: z.string(),
  param: z.string().nullable(),
  retryAfterSeconds: z.number().nullable(),
  /** For the log of the other side; it is not sent on from there. */
  cause: z.string().nullable(),
});

/** What is not a `PlatformError` is a bug, and `internal` to the caller. */
export function encodeError(thrown: unknown): string {
  const error =
    thrown instanceof PlatformError
      ? thrown
      : new PlatformError('internal', 'internal error', { cause: thrown });
  const { code, message, param, retryAfterSeconds, cause } = error;
  return JSON.stringify({ code, message, param, retryAfterSeconds, cause: toText(cause) });
}

function toText(cause: unknown): string | null {
  if (cause === undefined) return null;
  if (!(cause instanceof Error)) return String(cause);
  const inner = toText(cause.cause);
  return `${cause.stack ?? cause.message}${inner === null ? '' : `\ncaused by ${inner}`}`;
}

export function decodeError(text: string): PlatformError {
  const { code, message, param, retryAfterSeconds, cause } = errorSchema.parse(JSON.parse(text));
  return new PlatformError(code, message, {
    ...(cause === null ? {} : { cause }),
    ...(param === null ? {} : { param }),
    ...(retryAfterSeconds === null ? {} : { retryAfterSeconds }),
  });
}

/** Of the answer to a submission: there when its id was known, so that an earlier job stands. */
export const KNOWN_HEADER = 'x-known';

/** A line of a stream of events. A stream without an `end` or `error` was cut. */
export type Frame =
  | { readonly type: 'event'; readonly logged: LoggedEvent }
  | { readonly type: 'error'; readonly error: unknown }
  | { readonly type: 'end' };

const END = '.';
const ERROR = '!';

/**
 * `<epoch>-<seq> <event>`, `! <error>` or `.`; JSON escapes line breaks, so a frame is one line.
 */
export function encodeFrame(frame: Frame): string {
  switch (frame.type) {
    case 'event':
      return `${encodeEventId(frame.logged.id)} ${encodeEvent(frame.logged.event)}\n`;
    case 'error':
      return `${ERROR} ${encodeError(frame.error)}\n`;
    case 'end':
      return `${END}\n`;
  }
}

/** @throws {PlatformError} `protocol_mismatch` for what is no frame */
export function decodeFrame(line: string): Frame {
  if (line === END) return { type: 'end' };
  const space = line.indexOf(' ');
  const [head, payload] = [line.slice(0, space), line.slice(space + 1)];
  if (head === ERROR) return { type: 'error', error: decodeError(payload) };
  const id = parseEventId(head);
  if (id === null) throw new PlatformError('protocol_mismatch', 'unreadable frame');
  return { type: 'event', logged: { id, event: decodeEvent(payload) } };
}

/** Cuts a stream of bytes into lines; a last one that was cut short is left out. */
export async function* linesOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield line; // `yield*` would await each once more
  }
}
