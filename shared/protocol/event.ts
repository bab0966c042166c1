import { z } from 'zod';
import { type CharacterCount, countCharacters } from '../characters.ts';
import { ERROR_CODES, PlatformError } from '../errors.ts';

/** A token, spelled out so that the log can be read without the model's tokenizer. */
const tokenTextSchema = z.object({
  id: z.int().nonnegative(),
  /** Its text; bytes that are no whole character are replaced. */
  text: z.string(),
  bytes: z.array(z.int().min(0).max(255)),
  /**
   * Natural logarithm of softmax(logits), before temperature and filters; `null` for the first
   * token of a prompt.
   */
  logprob: z.number().nullable(),
});

const tokenLogprobsSchema = tokenTextSchema.extend({
  /** The most likely tokens, greatest first; as many as asked for. */
  top: z.array(tokenTextSchema),
});

export type TokenText = z.infer<typeof tokenTextSchema>;
export type TokenLogprobs = z.infer<typeof tokenLogprobsSchema>;

export const FINISH_REASONS = ['stop', 'length', 'cancelled', 'deadline'] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

const usageSchema = z.object({
  promptTokens: z.int(),
  /** Of those, read from the prefix cache. */
  cachedTokens: z.int(),
  completionTokens: z.int(),
  /** Drafted tokens that the target kept, and those it did not. */
  acceptedPredictionTokens: z.int(),
  rejectedPredictionTokens: z.int(),
});

export type Usage = z.infer<typeof usageSchema>;

const proposerStatsSchema = z.object({
  proposer: z.string(),
  numDrafts: z.int(),
  numDraftTokens: z.int(),
  /** Accepted drafted tokens by their place in the draft. */
  numAcceptedPerPosition: z.array(z.int()),
});

export type ProposerStats = z.infer<typeof proposerStatsSchema>;

/**
 * What a worker says about one request, in order: any number of `echo` and `tokens`, then exactly
 * one `done` or `error`. Nothing follows the last one. Of each choice, `echo` comes first, and the
 * event with a finish reason last.
 */
export const eventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('echo'),
    choice: z.int().nonnegative(),
    text: z.string(),
    logprobs: z.array(tokenLogprobsSchema).nullable(),
  }),
  z.object({
    type: z.literal('tokens'),
    choice: z.int().nonnegative(),
    tokenIds: z.array(z.int().nonnegative()),
    /**
     * What these tokens add to the visible text; a half character or a possible stop string waits.
     */
    text: z.string(),
    logprobs: z.array(tokenLogprobsSchema).nullable(),
    finishReason: z.enum(FINISH_REASONS).nullable(),
  }),
  z.object({
    type: z.literal('done'),
    usage: usageSchema,
    timings: z.object({
      queuedMs: z.number(),
      prefillMs: z.number(),
      decodeMs: z.number(),
    }),
    speculation: z.array(proposerStatsSchema),
  }),
  z.object({
    type: z.literal('error'),
    code: z.enum(ERROR_CODES),
    message: z.string(),
    param: z.string().nullable(),
  }),
]);

export type RequestEvent = z.infer<typeof eventSchema>;
export type EchoEvent = Extract<RequestEvent, { type: 'echo' }>;
export type TokensEvent = Extract<RequestEvent, { type: 'tokens' }>;
export type DoneEvent = Extract<RequestEvent, { type: 'done' }>;
export type ErrorEvent = Extract<RequestEvent, { type: 'error' }>;

/** Counts on with the tokens of an event, whose bytes are in its log-probabilities. */
export function countEvent(
  count: CharacterCount,
  { logprobs }: EchoEvent | TokensEvent,
): CharacterCount {
  return (logprobs ?? []).reduce((sum, { bytes }) => countCharacters(sum, bytes), count);
}

export function isTerminal(event: RequestEvent): event is DoneEvent | ErrorEvent {
  return event.type === 'done' || event.type === 'error';
}

/**
 * Where an event stands in its request's log: which claim wrote it, and its place, counted from 0
 * over all claims. Written `<epoch>-<seq>`, as a Redis stream id and as the `id:` of a server-sent
 * event.
 */
export interface EventId {
  readonly epoch: number;
  readonly seq: number;
}

export interface LoggedEvent {
  readonly id: EventId;
  readonly event: RequestEvent;
}

export function encodeEventId({ epoch, seq }: EventId): string {
  return `${epoch}-${seq}`;
}

/** @returns `null` when `text` is no event id */
export function parseEventId(text: string): EventId | null {
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(text);
  return match === null ? null : { epoch: Number(match[1]), seq: Number(match[2]) };
}

/** Whether an event comes after another, `null` standing for the beginning. */
export function isLater(id: EventId, other: EventId | null): boolean {
  if (other === null) return true;
  return id.epoch === other.epoch ? id.seq > other.seq : id.epoch > other.epoch;
}

/** Whether an event stands where another claim's once stood: Redis has lost that one. */
export function isRewritten(id: EventId, other: EventId): boolean {
  return id.epoch > other.epoch && id.seq <= other.seq;
}

/** Told to a reader that wants to go on after an event that Redis has lost. */
export function eventLost(id: EventId): PlatformError {
  const message =
    `Redis lost event ${encodeEventId(id)}, and what it said was written again: ` +
    'read from the beginning, without Last-Event-ID';
  return new PlatformError('events_trimmed', message);
}

export function encodeEvent(event: RequestEvent): string {
  return JSON.stringify(event);
}

/** @throws {PlatformError} `protocol_mismatch` when `payload` is not an event this build knows */
export function decodeEvent(payload: string): RequestEvent {
  try {
    return eventSchema.parse(JSON.parse(payload));
  } catch (cause) {
    throw new PlatformError('protocol_mismatch', 'unreadable event', { cause });
  }
}
