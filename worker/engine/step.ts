import type { TokenId } from '../../shared/ids.ts';
import type { FinishReason, TokenLogprobs } from '../../shared/protocol/event.ts';
import type { VerifiedDraft } from '../speculative/tally.ts';
import type { Sequence } from './sequence.ts';

/** Some pending tokens of one sequence, read in one step. */
export interface Chunk {
  readonly sequence: Sequence;
  readonly numTokens: number;
}

/**
 * Tokens of a chunk, from its end, whose logits are wanted: those that choose a token or verify a
 * draft.
 */
export function numLogits({ sequence, numTokens }: Chunk): number {
  if (sequence.options.wantsPromptLogprobs && sequence.numOutputTokens === 0) return numTokens;
  const numKnown = sequence.tokenIds.length - sequence.numComputedTokens;
  return Math.max(0, numTokens - numKnown + 1);
}

/** What a chunk gave. */
export interface StepOutput {
  readonly chunk: Chunk;
  /** New output tokens, 0 or more. */
  readonly newTokenIds: readonly TokenId[];
  /** Leading tokens of the chunk that stay: all but rejected drafts. */
  readonly numKept: number;
  readonly text: string;
  readonly logprobs: readonly TokenLogprobs[];
  /** Log-probabilities of the prompt tokens that follow those of the chunk. */
  readonly promptLogprobs: readonly TokenLogprobs[];
  readonly finishReason: FinishReason | null;
  /** The draft that was verified, `null` for none. */
  readonly verified: VerifiedDraft | null;
  /** The model gave NaN for it. */
  readonly isBroken: boolean;
}
