import type { RequestEvent } from './event.ts';
import { type Job, numChoices } from './job.ts';
import type { ChoiceProgress } from './progress.ts';
import type { CancelReason } from './request-scripts.ts';

/** Where a request stands that no worker has. */
export interface Standing {
  readonly choices: readonly ChoiceProgress[]; // [numChoices], or none where nothing was said
  readonly queuedMs: number;
}

/** The whole log of a request that ends before any worker has begun it. */
export function eventsOfUnbegun(job: Job, reason: CancelReason, nowMs: number): RequestEvent[] {
  return lastEventsOf(job, reason, { choices: [], queuedMs: Math.max(nowMs - job.createdMs, 0) });
}

/** What is left to say of a request that ends while no worker has it. */
export function lastEventsOf(
  job: Job,
  reason: CancelReason,
  { choices, queuedMs }: Standing,
): RequestEvent[] {
  const logprobs = job.topLogprobs === null ? null : [];
  const open = Array.from({ length: numChoices(job) }, (_, choice) => choice).filter(
    (choice) => !choices[choice]?.finishReason,
  );
  const usage = {
    promptTokens: job.prompts.reduce((sum, prompt) => sum + prompt.length, 0),
    cachedTokens: 0,
    completionTokens: choices.reduce((sum, { numTokens }) => sum + numTokens, 0),
    acceptedPredictionTokens: 0,
    rejectedPredictionTokens: 0,
  };
  const timings = { queuedMs, prefillMs: 0, decodeMs: 0 };
  return [
    ...open.map((choice): RequestEvent => {
      return { type: 'tokens', choice, tokenIds: [], text: '', logprobs, finishReason: reason };
    }),
    { type: 'done', usage, timings, speculation: [] },
  ];
}
