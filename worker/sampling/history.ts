import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';

/** Which tokens a sequence holds and how often: what penalties are about. */
export class TokenHistory {
  readonly #promptCounts = new Map<TokenId, number>();
  readonly #outputCounts = new Map<TokenId, number>();

  constructor(promptTokenIds: Iterable<TokenId>) {
    for (const tokenId of promptTokenIds) increment(this.#promptCounts, tokenId);
  }

  /** Prompt tokens and how often each came; never 0. */
  get promptCounts(): ReadonlyMap<TokenId, number> {
    return this.#promptCounts;
  }

  /** Output tokens and how often each came; never 0. */
  get outputCounts(): ReadonlyMap<TokenId, number> {
    return this.#outputCounts;
  }

  add(tokenId: TokenId): void {
    increment(this.#outputCounts, tokenId);
  }

  /** Takes back one `add` of the token. */
  remove(tokenId: TokenId): void {
    decrement(this.#outputCounts, tokenId);
  }

  /** Forgets a prompt token once. */
  removePrompt(tokenId: TokenId): void {
    decrement(this.#promptCounts, tokenId);
  }
}

function increment(counts: Map<TokenId, number>, tokenId: TokenId): void {
  counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1);
}

function decrement(counts: Map<TokenId, number>, tokenId: TokenId): void {
  const count = counts.get(tokenId);
  invariant(count !== undefined, `token ${tokenId} removed but never added`);
  if (count === 1) counts.delete(tokenId);
  else counts.set(tokenId, count - 1);
}
