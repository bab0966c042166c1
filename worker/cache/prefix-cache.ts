import { invariant } from '../../shared/assert.ts';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { TenantId, TokenId } from '../../shared/ids.ts';
import type { FrozenBlock } from './bank.ts';
import type { KnownColumns, PartOfBlock } from './kv-cache.ts';

/**
 * A place in the tree of prefixes: tokens from the beginning, in whole blocks. A row keeps the one
 * that it has come to, so that nothing is ever looked up from the beginning.
 */
export interface Prefix {
  /** A multiple of the block size; 0 for the root of a tenant. */
  readonly numTokens: number;
  /** What is known behind it. */
  readonly children: Set<CachedPrefix>;
}

/** A prefix whose last block is held. */
interface CachedPrefix extends Prefix {
  readonly parent: Prefix;
  readonly tokenIds: Int32Array; // [BLOCK_SIZE], the last block's
  readonly block: FrozenBlock;
}

/** What can be copied of a prefix. */
export interface PrefixMatch extends KnownColumns {
  /** How far its whole blocks go. */
  readonly prefix: Prefix;
}

/** Memory of a prefix cache, in bytes. */
export interface PrefixCacheUsage {
  /** Of blocks and of what they are found by. */
  readonly held: number;
  /**
   * Keys and values of blocks that a sequence can still begin with: the rest of what is held is
   * waste.
   */
  readonly needed: number;
}

/**
 * What an entry of a set takes beside what is in it, on a 64-bit machine, and the objects of a
 * block.
 */
const ENTRY_BYTES = 384;
/** The object of one typed array. */
const ARRAY_BYTES = 128;

/** Fewer tokens than this of a block are read in the time that it takes to copy them. */
const MIN_PART = 8;

/**
 * Blocks of keys and values that were computed before, by the tokens that lead up to and through
 * them: a tree for each tenant, so that one tenant's prompts never make another's faster. A
 * sequence that begins like an earlier one copies them instead of computing them again.
 *
 * When the budget is full, the block used longest ago goes, of those on which no other builds: one
 * on which others build counts as used when its turn comes, so that whatever is held can be
 * reached.
 */
export class PrefixCache {
  readonly #maxBlocks: number;
  readonly #blockBytes: number;
  readonly #rootByTenant = new Map<TenantId, Prefix>();
  readonly #held = new Set<CachedPrefix>(); // used longest ago first
  #numEvicted = 0;

  constructor({ maxBytes, blockBytes }: { maxBytes: number; blockBytes: number }) {
    this.#maxBlocks = Math.floor(maxBytes / blockBytes);
    this.#blockBytes = blockBytes;
  }

  get numBlocks(): number {
    return this.#held.size;
  }

  /** Of keys and values: what the budget is of. */
  get numBytes(): number {
    return this.numBlocks * this.#blockBytes;
  }

  /** Blocks that had to go for others. */
  get numEvicted(): number {
    return this.#numEvicted;
  }

  /** What is held, and for what. */
  get usage(): PrefixCacheUsage {
    let held = 0;
    let needed = 0;
    for (const { block, tokenIds, parent } of this.#held) {
      const parts = [...block.keys, ...block.values];
      const bytes = parts.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
      held += bytes + tokenIds.byteLength + (parts.length + 1) * ARRAY_BYTES + ENTRY_BYTES;
      if (this.canAdd(parent)) needed += bytes;
    }
    return { held, needed };
  }

  /** Where every sequence of a tenant begins. */
  rootOf(tenant: TenantId): Prefix {
    const known = this.#rootByTenant.get(tenant);
    if (known !== undefined) return known;
    const root: Prefix = { numTokens: 0, children: new Set() };
    this.#rootByTenant.set(tenant, root);
    return root;
  }

  /**
   * What can be copied of `tokenIds`, the first `maxTokens` of them at most, behind a place that
   * they begin with.
   */
  match(from: Prefix, tokenIds: readonly TokenId[], maxTokens: number): PrefixMatch {
    const matched: CachedPrefix[] = [];
    let part: PartOfBlock | null = null;
    for (let place = from; place.numTokens < maxTokens; ) {
      const closest = closestChild(place, tokenIds, maxTokens);
      if (closest === null) break;
      const { child, numTokens } = closest;
      if (numTokens < BLOCK_SIZE) {
        if (numTokens >= MIN_PART) part = { block: child.block, numTokens };
        break;
      }
      matched.push(child);
      place = child;
    }
    for (const each of matched.toReversed()) this.#touch(each);
    return { prefix: matched.at(-1) ?? from, blocks: matched.map(({ block }) => block), part };
  }

  /** The place that `tokenIds` come to a block behind `parent`, if that is held. */
  find(parent: Prefix, tokenIds: readonly TokenId[]): Prefix | null {
    const closest = closestChild(parent, tokenIds, parent.numTokens + BLOCK_SIZE);
    if (closest === null || closest.numTokens < BLOCK_SIZE) return null;
    this.#touch(closest.child);
    return closest.child;
  }

  /** Whether a block behind `parent` could be found again. */
  canAdd(parent: Prefix): boolean {
    return this.#maxBlocks > 0 && (!isCached(parent) || this.#held.has(parent));
  }

  /**
   * Keeps the block of `tokenIds` behind `parent`, which `find` does not know.
   *
   * @returns its place, `null` where there is room for no more than what is before it
   */
  add(parent: Prefix, tokenIds: readonly TokenId[], block: FrozenBlock): Prefix | null {
    invariant(this.canAdd(parent), 'a block behind one that is gone');
    if (isCached(parent)) this.#touch(parent);
    if (this.numBlocks >= this.#maxBlocks && !this.#evict(parent)) return null;
    const { numTokens } = parent;
    const added: CachedPrefix = {
      parent,
      numTokens: numTokens + BLOCK_SIZE,
      children: new Set(),
      tokenIds: Int32Array.from(tokenIds.slice(numTokens, numTokens + BLOCK_SIZE)),
      block,
    };
    parent.children.add(added);
    this.#held.add(added);
    return added;
  }

  /** @returns whether there was a block that could go, other than the last of `kept` */
  #evict(kept: Prefix): boolean {
    let numLeft = this.numBlocks;
    for (const each of this.#held) {
      if (numLeft === 0) return false;
      numLeft -= 1;
      if (each.children.size === 0 && each !== kept) {
        this.#held.delete(each);
        each.parent.children.delete(each);
        this.#numEvicted += 1;
        return true;
      }
      this.#touch(each);
    }
    return false;
  }

  /** Makes it the one used last. */
  #touch(prefix: CachedPrefix): void {
    this.#held.delete(prefix);
    this.#held.add(prefix);
  }
}

function isCached(prefix: Prefix): prefix is CachedPrefix {
  return 'block' in prefix;
}

/**
 * What is held behind `place` and has most tokens in common with `tokenIds`, as far as these count.
 *
 * @returns `null` where nothing has one
 */
function closestChild(
  place: Prefix,
  tokenIds: readonly TokenId[],
  end: number,
): { readonly child: CachedPrefix; readonly numTokens: number } | null {
  const maxTokens = Math.min(BLOCK_SIZE, tokenIds.length - place.numTokens, end - place.numTokens);
  let closest: { child: CachedPrefix; numTokens: number } | null = null;
  for (const child of place.children) {
    let numTokens = 0;
    while (
      numTokens < maxTokens &&
      child.tokenIds[numTokens] === tokenIds[place.numTokens + numTokens]
    ) {
      numTokens += 1;
    }
    if (numTokens > (closest?.numTokens ?? 0)) closest = { child, numTokens };
    if (numTokens === BLOCK_SIZE) break;
  }
  return closest;
}
