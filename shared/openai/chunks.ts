import type { CharacterCount } from '../characters.ts';
import type {
  EchoEvent,
  FinishReason,
  RequestEvent,
  TokensEvent,
  Usage,
} from '../protocol/event.ts';
import { hasTextOffsets, type Job, numChoices } from '../protocol/job.ts';
import { CompletionLogprobsEncoder, toChatLogprobs } from './logprobs.ts';

export type ChoiceEvent = EchoEvent | TokensEvent;

/**
 * Our reasons in OpenAI's words. A deadline is a limit that the client set, so it reads as
 * `length`, which every client knows. A cancel has no counterpart; only who uses our cancel route
 * can meet `cancelled`.
 */
const FINISH_REASON = {
  stop: 'stop',
  length: 'length',
  deadline: 'length',
  cancelled: 'cancelled',
} as const satisfies Record<FinishReason, string>;

export function toFinishReason(event: ChoiceEvent) {
  if (event.type === 'echo' || event.finishReason === null) return null;
  return FINISH_REASON[event.finishReason];
}

export function toUsage(usage: Usage) {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
    completion_tokens_details: {
      accepted_prediction_tokens: usage.acceptedPredictionTokens,
      rejected_prediction_tokens: usage.rejectedPredictionTokens,
    },
  };
}

/**
 * What every object about one request has in common. The id is the request's own: good for resume
 * and cancel.
 */
export function toEnvelope(job: Job, objectName: string) {
  return {
    id: job.id,
    object: objectName,
    created: Math.floor(job.createdMs / 1000),
    model: job.model,
    system_fingerprint: job.fingerprint,
    seed: job.sampling.seed,
  };
}

/** Events of one request, in order, to the chunks of its stream. */
export interface ChunkEncoder {
  /** What opens the stream, before any event. */
  readonly opening: readonly object[];
  /**
   * Whether a chunk depends on those before it, so that a resumed stream must be encoded from the
   * start, or from where counts are known.
   */
  readonly isStateful: boolean;
  /**
   * Exactly one chunk for a choice's event; for `done` the usage, if asked for. Errors are not
   * chunks.
   */
  encode(event: RequestEvent): readonly object[];
}

/** @param counts [numChoices], of what came before the first event; none for a whole stream */
export function createChunkEncoder(job: Job, counts: readonly CharacterCount[] = []): ChunkEncoder {
  return job.endpoint === 'chat' ? createChatEncoder(job) : createCompletionEncoder(job, counts);
}

function createChatEncoder(job: Job): ChunkEncoder {
  const envelope = toEnvelope(job, 'chat.completion.chunk');
  const roleDelta = { role: 'assistant', content: '', refusal: null };
  const toChunk = (index: number, delta: object, event: ChoiceEvent | null) => ({
    ...envelope,
    choices: [
      {
        index,
        delta,
        logprobs:
          event?.logprobs && job.topLogprobs !== null
            ? toChatLogprobs(event.logprobs, job.topLogprobs)
            : null,
        finish_reason: event === null ? null : toFinishReason(event),
      },
    ],
    ...(hasUsageChunk(job) && { usage: null }),
  });
  return {
    opening: Array.from({ length: numChoices(job) }, (_, i) => toChunk(i, roleDelta, null)),
    isStateful: false,
    encode(event) {
      if (event.type === 'error') return [];
      if (event.type === 'done') return toUsageChunks(job, envelope, event.usage);
      return [toChunk(event.choice, event.text === '' ? {} : { content: event.text }, event)];
    },
  };
}

function createCompletionEncoder(job: Job, counts: readonly CharacterCount[]): ChunkEncoder {
  const envelope = toEnvelope(job, 'text_completion');
  const logprobs = Array.from(
    { length: numChoices(job) },
    (_, i) => new CompletionLogprobsEncoder(counts[i]),
  );
  return {
    opening: [],
    isStateful: hasTextOffsets(job),
    encode(event) {
      if (event.type === 'error') return [];
      if (event.type === 'done') return toUsageChunks(job, envelope, event.usage);
      const choice = {
        index: event.choice,
        text: event.text,
        logprobs: event.logprobs && (logprobs[event.choice]?.encode(event.logprobs) ?? null),
        finish_reason: toFinishReason(event),
      };
      return [{ ...envelope, choices: [choice], ...(hasUsageChunk(job) && { usage: null }) }];
    },
  };
}

/** Whoever reads a plain request's events as a stream gets the usage that the plain answer has. */
function hasUsageChunk(job: Job): boolean {
  return job.includeUsage || !job.stream;
}

function toUsageChunks(job: Job, envelope: object, usage: Usage): readonly object[] {
  return hasUsageChunk(job) ? [{ ...envelope, choices: [], usage: toUsage(usage) }] : [];
}
