import type { TokenId } from '../../shared/ids.ts';

/**
 * Who drafts: the client's predicted output, the sequence's own tokens, recent outputs of the
 * tenant, lookahead's pool, the draft model, and the draft model helped by a lookup of its own.
 */
export const PROPOSERS = ['prediction', 'ngram', 'suffix', 'lookahead', 'draft', 'staged'] as const;

export type ProposerName = (typeof PROPOSERS)[number];

/** Tokens of a draft, at most: verifying more costs nearly what it gives, even of a copy. */
export const MAX_DRAFT_TOKENS = 16;

/** Tokens put forward together, to follow the sequence. */
export interface Proposal {
  readonly proposer: ProposerName;
  readonly tokenIds: readonly TokenId[];
  /**
   * Length of the match it rests on, 0 where that means nothing: longer matches are accepted more
   * often.
   */
  readonly matchLength: number;
}

export interface LookupLimits {
  /** Shortest match worth a proposal. */
  readonly minMatch: number;
  /** Longest proposal. */
  readonly maxDraft: number;
}
