import { BLOCK_SIZE } from '../block-size.ts';
import type { ContextPolicy, Job } from './job.ts';

/** All sizes in tokens. */
export type SinkPolicy = Extract<ContextPolicy, { type: 'sinks' }>;

/** Sinks lie in the first block of a row. */
export const MAX_SINK_TOKENS = BLOCK_SIZE;

/** Windows that a context slides by before it is begun anew. */
const RENEWAL_WINDOWS = 8;

/** Tokens that a context slides by before it is begun anew with the sinks and its last window. */
export function renewalTokens({ windowTokens }: SinkPolicy): number {
  return RENEWAL_WINDOWS * windowTokens;
}

/** Windows of output that a turn of a choice is worth. */
const TURN_WINDOWS = 16;

/**
 * Output tokens of a choice after which giving its place to others pays: whoever goes on with it
 * reads its context again, nine windows at worst and five on average.
 */
export function turnTokens({ sinkTokens, windowTokens }: SinkPolicy): number {
  return TURN_WINDOWS * (sinkTokens + windowTokens);
}

/** Tokens at which a context is full, and begun anew. */
export function contextTokens(policy: SinkPolicy): number {
  return policy.sinkTokens + policy.windowTokens + renewalTokens(policy);
}

/**
 * The latest output tokens of a choice that decide how its context goes on; what came before them
 * has no part in it. Under `stop` that is all of them.
 */
export function tokensToResume(policy: ContextPolicy): number {
  return policy.type === 'stop' ? Infinity : policy.windowTokens + renewalTokens(policy);
}

/** A character, up to four units of text where it is read from its middle. */
const MAX_HALF_CHARACTER = 4;

/** Tokens without text, such as special ones, behind which nobody looks for text held back. */
const MAX_TEXTLESS_TOKENS = 65_536;

/**
 * Whether the end of a choice's output is all that a worker needs to go on byte for byte: its
 * tokens for the context, its text for what a stop string that has begun, or half a character,
 * holds back. What was held back where that end begins is shown in it, but by tokens before it.
 *
 * @param end `textLength` in characters (UTF-16 units) of visible text
 */
export function isEnoughToResume(
  { contextPolicy, stop }: Pick<Job, 'contextPolicy' | 'stop'>,
  end: { readonly numTokens: number; readonly textLength: number },
): boolean {
  const numTextless = end.numTokens - tokensToResume(contextPolicy);
  if (numTextless < 0) return false;
  const longestStop = Math.max(0, ...stop.map(({ length }) => length));
  const minText = 2 * longestStop + MAX_HALF_CHARACTER;
  return end.textLength >= minText || numTextless >= MAX_TEXTLESS_TOKENS;
}
