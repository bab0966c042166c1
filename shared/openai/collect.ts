import { PlatformError } from '../errors.ts';
import type { LoggedEvent, TokenLogprobs, Usage } from '../protocol/event.ts';
import { type Job, numChoices } from '../protocol/job.ts';
import { type ChoiceEvent, toEnvelope, toFinishReason, toUsage } from './chunks.ts';
import { CompletionLogprobsEncoder, toChatLogprobs } from './logprobs.ts';

/** One choice as far as it has come. */
class Choice {
  text = '';
  readonly logprobs: TokenLogprobs[] = [];
  finishReason: string | null = null;

  add(event: ChoiceEvent): void {
    this.text += event.text;
    for (const token of event.logprobs ?? []) this.logprobs.push(token);
    this.finishReason = toFinishReason(event) ?? this.finishReason;
  }
}

/**
 * Folds a request's events into the one object of a plain answer.
 *
 * @throws {PlatformError} with the code of an `error` event; `worker_lost` when the events stop
 *   before the last
 */
export async function collect(events: AsyncIterable<LoggedEvent>, job: Job): Promise<object> {
  const choices = Array.from({ length: numChoices(job) }, () => new Choice());
  for await (const { event } of events) {
    switch (event.type) {
      case 'echo':
      case 'tokens':
        choices[event.choice]?.add(event);
        break;
      case 'done':
        return toResponse(job, choices, event.usage);
      case 'error':
        throw new PlatformError(event.code, event.message, toErrorOptions(event.param));
    }
  }
  throw new PlatformError('worker_lost', 'the events ended before the answer did');
}

export function toErrorOptions(param: string | null) {
  return param === null ? {} : { param };
}

function toResponse(job: Job, choices: readonly Choice[], usage: Usage): object {
  const isChat = job.endpoint === 'chat';
  return {
    ...toEnvelope(job, isChat ? 'chat.completion' : 'text_completion'),
    choices: choices.map((choice, index) =>
      isChat ? toChatChoice(job, choice, index) : toCompletionChoice(job, choice, index),
    ),
    usage: toUsage(usage),
  };
}

function toChatChoice(job: Job, { text, logprobs, finishReason }: Choice, index: number) {
  return {
    index,
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: job.topLogprobs === null ? null : toChatLogprobs(logprobs, job.topLogprobs),
    finish_reason: finishReason,
  };
}

function toCompletionChoice(job: Job, { text, logprobs, finishReason }: Choice, index: number) {
  return {
    index,
    text,
    logprobs: job.topLogprobs === null ? null : new CompletionLogprobsEncoder().encode(logprobs),
    finish_reason: finishReason,
  };
}
