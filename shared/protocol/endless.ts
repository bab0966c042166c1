import type { ContextPolicy } from './job.ts';

/** All sizes in tokens. */
export type SinkPolicy = Extract<ContextPolicy, { type: 'sinks' }>;

/** Sinks lie in the first block of a row. */
export const MAX_SINK_TOKENS = 64;

/** Windows that a context slides by before it is begun anew. */
const RENEWAL_WINDOWS = 8;

/** Tokens that a context slides by before it is begun anew with the sinks and its last window. */
export function renewalTokens({ windowTokens }: SinkPolicy): number {
  return RENEWAL_WINDOWS * windowTokens;
}

/** Tokens at which a context is full, and begun anew. */
export function contextTokens(policy: SinkPolicy): number {
  return policy.sinkTokens + policy.windowTokens + renewalTokens(policy);
}

/**
 * The latest output tokens of a choice that a worker must find in the log to go on byte for byte;
 * what came before them has no part in what follows. Under `stop` that is all of them.
 */
export function tokensToResume(policy: ContextPolicy): number {
  return policy.type === 'stop' ? Infinity : policy.windowTokens + renewalTokens(policy);
}
