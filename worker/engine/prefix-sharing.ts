import { invariant } from '../../shared/assert.ts';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { TokenId } from '../../shared/ids.ts';
import type { KvCache } from '../cache/kv-cache.ts';
import type { Prefix, PrefixCache } from '../cache/prefix-cache.ts';
import type { CacheRow } from '../cache/row.ts';
import type { Sequence } from './sequence.ts';

/**
 * Lets sequences of a tenant share what they begin with: each block is computed once and copied
 * into the rows of the others, whether it was computed for an earlier sequence or is just being
 * computed for one beside it.
 *
 * A position's keys and values depend on no more than the tokens up to it, so it does not matter to
 * a sequence which of its blocks were copied.
 */
export class PrefixSharing {
  readonly #cache: KvCache;
  readonly #prefixes: PrefixCache;
  /** How far the blocks of a row are known; absent where it went a way of its own. */
  readonly #prefixByRow = new WeakMap<CacheRow, Prefix>();
  readonly #askedRows = new WeakSet<CacheRow>();
  #numTokensAsked = 0;
  #numTokensCopied = 0;

  constructor(cache: KvCache, prefixes: PrefixCache) {
    this.#cache = cache;
    this.#prefixes = prefixes;
  }

  /** Tokens of begins that could have been copied, whenever a sequence came to an empty row. */
  get numTokensAsked(): number {
    return this.#numTokensAsked;
  }

  /** Of those, the ones that were. */
  get numTokensCopied(): number {
    return this.#numTokensCopied;
  }

  /**
   * Copies what a sequence reads next, as far as it is known and nobody is about to know more; a
   * token at least stays to be read.
   *
   * @param others that run beside it, those first that are served first
   */
  extend(sequence: Sequence, others: readonly Sequence[]): void {
    const { row, tokenIds } = sequence;
    const prefix = this.#prefixOf(sequence);
    if (row === null || prefix === null || row.numTokens > prefix.numTokens) return;
    this.#countAsked(sequence, row);
    const match = this.#prefixes.match(prefix, tokenIds, numShareable(sequence));
    this.#prefixByRow.set(row, match.prefix);
    const start = row.numTokens;
    this.#cache.appendKnown(row, { blocks: match.blocks, part: null });
    const before = others.slice(0, others.indexOf(sequence));
    if (match.part !== null && !this.isReadBy(sequence, before)) {
      this.#cache.appendKnown(row, { blocks: [], part: match.part });
    }
    sequence.addCopied(start, row.numTokens);
    this.#numTokensCopied += row.numTokens - start;
  }

  /** Once for a row: what is parked comes back with it. */
  #countAsked(sequence: Sequence, row: CacheRow): void {
    if (this.#askedRows.has(row)) return;
    this.#askedRows.add(row);
    this.#numTokensAsked += numShareable(sequence);
  }

  /**
   * Whether the block that a sequence would read next is the one that another reads: then it is to
   * be copied once that is done.
   */
  isReadBy(sequence: Sequence, others: readonly Sequence[]): boolean {
    const prefix = this.#prefixOf(sequence);
    if (prefix === null || sequence.numComputedTokens > prefix.numTokens) return false;
    const end = prefix.numTokens + BLOCK_SIZE;
    if (end > numShareable(sequence) || !this.#prefixes.canAdd(prefix)) return false;
    return others.some(
      (other) =>
        other !== sequence &&
        this.#prefixOf(other) === prefix &&
        other.numComputedTokens < end &&
        canShareUpTo(other, end) &&
        isSame(sequence.tokenIds, other.tokenIds, { start: prefix.numTokens, end }),
    );
  }

  /** Keeps a block that has just been frozen for those who begin alike. */
  remember(sequence: Sequence): void {
    const { row, tokenIds, options } = sequence;
    invariant(row !== null, 'a sequence that has read has a row');
    if (row.numTokens === 0 || row.numTokens % BLOCK_SIZE > 0) return;
    const start = row.numTokens - BLOCK_SIZE;
    const known = start === 0 ? this.#prefixes.rootOf(options.tenant) : this.#prefixByRow.get(row);
    this.#prefixByRow.delete(row);
    if (known?.numTokens !== start || !canShareUpTo(sequence, row.numTokens)) return;
    const prefix = this.#prefixes.find(known, tokenIds) ?? this.#add(known, sequence, row);
    if (prefix !== null) this.#prefixByRow.set(row, prefix);
  }

  #add(before: Prefix, { tokenIds }: Sequence, row: CacheRow): Prefix | null {
    if (!this.#prefixes.canAdd(before)) return null;
    const block = this.#cache.readBlock(row, before.numTokens / BLOCK_SIZE);
    return this.#prefixes.add(before, tokenIds, block);
  }

  /** The full blocks of a sequence's row, if they are known all of them. */
  #prefixOf({ row, options }: Sequence): Prefix | null {
    if (row === null) return null;
    if (row.numTokens < BLOCK_SIZE) return this.#prefixes.rootOf(options.tenant);
    return this.#prefixByRow.get(row) ?? null;
  }
}

/** Leading tokens of a sequence that may be copied. */
function numShareable({ tokenIds, context, options, numOutputTokens }: Sequence): number {
  const wantsAllLogits = options.wantsPromptLogprobs && numOutputTokens === 0;
  return wantsAllLogits ? 0 : Math.min(tokenIds.length - 1, context.numDenseTokens);
}

/**
 * Whether others may have the tokens of a sequence up to `end`: what slid away has a part in later
 * ones, and a context that was begun anew is nobody else's.
 */
function canShareUpTo({ tokenIds, context }: Sequence, end: number): boolean {
  return end <= tokenIds.length && end <= context.numDenseTokens && context.numForgotten === 0;
}

function isSame(
  a: readonly TokenId[],
  b: readonly TokenId[],
  { start, end }: { readonly start: number; readonly end: number },
): boolean {
  for (let i = start; i < end; i += 1) if (a[i] !== b[i]) return false;
  return true;
}
