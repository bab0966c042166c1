import type { Job } from '../../shared/protocol/job.ts';
import type { ModelShape } from '../model/runner.ts';
import type { GenerationFault } from './generation.ts';

/**
 * Why a job cannot run on this model, though the edge let it pass: the model would read beyond its
 * tables, which ends the worker and after it those that try the same.
 *
 * @returns `null` for a job that can
 */
export function faultOf(
  { prompts, contextPolicy }: Job,
  { vocabSize, maxSequenceTokens }: ModelShape,
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
  return null;
}

function faulty(message: string): GenerationFault {
  return { code: 'invalid_request', message, param: 'prompt' };
}
