import type { TokenId } from '../../shared/ids.ts';

/**
 * N-grams by their first token, the latest of each; when there are too many, those that were
 * neither added nor followed for longest go.
 */
export class NgramPool {
  readonly #maxNgrams: number;
  readonly #restByFirst = new Map<TokenId, readonly TokenId[]>(); // stalest first

  constructor(maxNgrams: number) {
    this.#maxNgrams = maxNgrams;
  }

  add([first, ...rest]: readonly TokenId[]): void {
    if (first === undefined || rest.length === 0) return;
    this.#restByFirst.delete(first);
    this.#restByFirst.set(first, rest);
    if (this.#restByFirst.size <= this.#maxNgrams) return;
    for (const stalest of this.#restByFirst.keys()) {
      this.#restByFirst.delete(stalest);
      return;
    }
  }

  /** What follows a token: the rest of its n-gram, then of that of the last of these, and so on. */
  follow(tokenId: TokenId, maxTokens: number): TokenId[] {
    const tokenIds: TokenId[] = [];
    let last = tokenId;
    while (tokenIds.length < maxTokens) {
      const rest = this.#restByFirst.get(last);
      if (rest === undefined) break;
      if (tokenIds.length === 0) this.add([last, ...rest]);
      tokenIds.push(...rest);
      last = rest[rest.length - 1]!;
    }
    return tokenIds.slice(0, maxTokens);
  }
}
