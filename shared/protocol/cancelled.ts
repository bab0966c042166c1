import type { RequestEvent } from './event.ts';
import { type Job, numChoices } from './job.ts';
import type { CancelReason } from './request-scripts.ts';

/** The whole log of a request that ends before any worker has begun it. */
export function eventsOfUnbegun(job: Job, reason: CancelReason, nowMs: number): RequestEvent[] {
  const logprobs = job.topLogprobs === null ? null : [];
  const choices = Array.from({ length: numChoices(job) }, (_, choice): RequestEvent => {
    return { type: 'tokens', choice, tokenIds: [], text: '', logprobs, finishReason: reason };
  });
  const usage = {
    promptTokens: job.prompts.reduce((sum, prompt) => sum + prompt.length, 0),
    cachedTokens: 0,
    completionTokens: 0,
    acceptedPredictionTokens: 0,
    rejectedPredictionTokens: 0,
  };
  const timings = { queuedMs: Math.max(nowMs - job.createdMs, 0), prefillMs: 0, decodeMs: 0 };
  return [...choices, { type: 'done', usage, timings, speculation: [] }];
}
