import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';

/** Which tokens a sequence holds and how often: what penalties are about. */
export class TokenHistory {
  readonly #promptTokens: ReadonlySet<TokenId>;
  readonly #outputCounts = new Map<TokenId, number>();

  constructor(promptTokenIds: Iterable<TokenId>) {
    this.#promptTokens = new Set(promptTokenIds);
  }

  get promptTokens(): ReadonlySet<TokenId> {
    return this.#promptTokens;
  }

  /** Output tokens and how often each came; never 0. */
  get outputCounts(): ReadonlyMap<TokenId, number> {
    return this.#outputCounts;
  }

  add(tokenId: TokenId): void {
    this.#outputCounts.set(tokenId, (this.#outputCounts.get(tokenId) ?? 0) + 1);
  }

  /** Takes back one `add` of the token. */
  remove(tokenId: TokenId): void {
    const count = this.#outputCounts.get(tokenId);
    invariant(count !== undefined, `token ${tokenId} removed but never added`);
    if (count === 1) this.#outputCounts.delete(tokenId);
    else this.#outputCounts.set(tokenId, count - 1);
  }
}
