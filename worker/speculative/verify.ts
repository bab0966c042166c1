import type { TokenId } from '../../shared/ids.ts';

/** The sequence that a draft is verified for. */
export interface Target {
  /** Chooses the next token from the logits after the first `i` drafted ones, and takes it. */
  next(i: number): TokenId;
  /** Whether the token taken last was the sequence's last. */
  readonly isOver: boolean;
}

/**
 * Takes the tokens that the target chooses, for as long as the draft foresaw them, and one more:
 * the bonus token after a draft that was right to the end, else the recovered one.
 *
 * Because a token is a pure function of logits, seed and position, comparing for equality is the
 * whole of it: the output is the target's, token for token, whatever drafted it. A draft model
 * that draws with the same noise agrees most often.
 *
 * With drafted [5, 8, 2] and a target that chooses 5, 8, 9: two accepted, and 5, 8, 9 taken.
 *
 * @param drafted [k]
 * @returns how many of the drafted tokens were right, 0 to k
 *
 * Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative
 * Decoding", arXiv:2408.07978.
 */
export function verify(drafted: readonly TokenId[], target: Target): number {
  for (const [i, tokenId] of drafted.entries()) {
    if (target.next(i) !== tokenId) return i;
    if (target.isOver) return i + 1;
  }
  target.next(drafted.length);
  return drafted.length;
}
