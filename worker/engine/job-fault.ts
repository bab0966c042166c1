import type { Job } from '../../shared/protocol/job.ts';
import type { GenerationFault } from './generation.ts';

/** All that a job may ask of the model. */
export interface JobLimits {
  readonly vocabSize: number;
  readonly maxSequenceTokens: number;
}

/**
 * Why a job cannot run on this model, though the edge let it pass: the model would read beyond its
 * tables, or the cache hold more than it has memory for, which ends the worker and after it those
 * that try the same.
 *
 * @returns `null` for a job that can
 */
export function faultOf(
  { prompts, contextPolicy }: Job,
  { vocabSize, maxSequenceTokens }: JobLimits,
): GenerationFault | null {
  const isBounded = contextPolicy.type === 'stop';
  for (const prompt of prompts) {
    const unknown = prompt.find((tokenId) => tokenId >= vocabSize);
    if (unknown !== undefined) return faulty(`token ${unknown}; the limit is ${vocabSize - 1}`);
    if (prompt.length === 0) return faulty('a prompt without tokens');
    if (isBounded && prompt.length > maxSequenceTokens) {
      return faulty(`${prompt.length} tokens; the limit is ${maxSequenceTokens}`);
    }
  }
  if (isBounded) return null;
  const numSeen = contextPolicy.sinkTokens + contextPolicy.windowTokens;
  if (numSeen <= maxSequenceTokens) return null;
  const message = `sinks and a window of ${numSeen} tokens; the limit is ${maxSequenceTokens}`;
  return faulty(message, 'window_tokens');
}

function faulty(message: string, param = 'prompt'): GenerationFault {
  return { code: 'invalid_request', message, param };
}
