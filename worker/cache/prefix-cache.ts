import { invariant } from '../../shared/assert.ts';
import type { TenantId, TokenId } from '../../shared/ids.ts';
import type { FrozenBlock } from './bank.ts';
import { BLOCK_SIZE } from './layout.ts';

/** A block's place in the tree of prefixes: what came before it, and its own tokens. */
type BlockKey = string;

interface CachedBlock {
  readonly id: number;
  /** The block before it, or its tenant. */
  readonly parent: number | TenantId;
  readonly block: FrozenBlock;
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
 * What an entry of a map takes beside its key and value, on a 64-bit machine, and the objects of a
 * block.
 */
const ENTRY_BYTES = 256;
/** The object of one typed array. */
const ARRAY_BYTES = 128;

/**
 * Blocks of keys and values that were computed before, by the tokens that lead up to and through
 * them. A sequence that begins like an earlier one of its tenant copies them instead of computing
 * them again.
 *
 * A block is found by its parent and its own 64 tokens, compared in full: a chain as with hashes,
 * without their collisions. Chains begin at the tenant, so one tenant's prompts never make
 * another's faster.
 *
 * When the budget is full the block used longest ago goes. A chain is touched from its end to its
 * begin, so that a block never outlives the one before it.
 */
export class PrefixCache {
  readonly #maxBlocks: number;
  readonly #blockByKey = new Map<BlockKey, CachedBlock>(); // used longest ago first
  #nextId = 0;

  constructor({ maxBytes, blockBytes }: { maxBytes: number; blockBytes: number }) {
    this.#maxBlocks = Math.floor(maxBytes / blockBytes);
  }

  get numBlocks(): number {
    return this.#blockByKey.size;
  }

  /** What is held, and for what. */
  get usage(): PrefixCacheUsage {
    const ids = new Set(Array.from(this.#blockByKey.values(), ({ id }) => id));
    let held = 0;
    let needed = 0;
    for (const [key, { parent, block }] of this.#blockByKey) {
      const parts = [...block.keys, ...block.values];
      const bytes = parts.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
      held += bytes + parts.length * ARRAY_BYTES + key.length + ENTRY_BYTES;
      // A block goes before the one before it, so a parent that is there can be reached itself.
      if (typeof parent === 'string' || ids.has(parent)) needed += bytes;
    }
    return { held, needed };
  }

  /** The longest run of cached blocks that `tokenIds` begins with. */
  match(tenant: TenantId, tokenIds: readonly TokenId[], maxBlocks: number): FrozenBlock[] {
    const chain = this.#chain(tenant, tokenIds, maxBlocks);
    this.#touch(chain);
    return chain.map(([, { block }]) => block);
  }

  /**
   * Whether the last block of `tokenIds`, a multiple of 64, is still wanted: absent, and its parent
   * there.
   */
  wants(tenant: TenantId, tokenIds: readonly TokenId[]): boolean {
    const numBlocks = tokenIds.length / BLOCK_SIZE;
    return this.#maxBlocks > 0 && this.#chain(tenant, tokenIds, numBlocks).length === numBlocks - 1;
  }

  /** Keeps the last block of `tokenIds`, one that `wants` asked for. */
  add(tenant: TenantId, tokenIds: readonly TokenId[], block: FrozenBlock): void {
    invariant(this.wants(tenant, tokenIds), 'a block that the prefix cache does not want');
    const chain = this.#chain(tenant, tokenIds, tokenIds.length / BLOCK_SIZE);
    const parent = chain.at(-1)?.[1].id ?? tenant;
    const key = keyOf(parent, tokenIds, tokenIds.length - BLOCK_SIZE);
    this.#blockByKey.set(key, { id: this.#nextId, parent, block });
    this.#nextId += 1;
    this.#touch(chain);
    if (this.numBlocks > this.#maxBlocks) this.#evict();
  }

  #evict(): void {
    const [oldest] = this.#blockByKey.keys();
    if (oldest !== undefined) this.#blockByKey.delete(oldest);
  }

  #chain(
    tenant: TenantId,
    tokenIds: readonly TokenId[],
    maxBlocks: number,
  ): [BlockKey, CachedBlock][] {
    const chain: [BlockKey, CachedBlock][] = [];
    let parent: number | TenantId = tenant;
    while (chain.length < maxBlocks) {
      const start = chain.length * BLOCK_SIZE;
      if (start + BLOCK_SIZE > tokenIds.length) break;
      const key = keyOf(parent, tokenIds, start);
      const cached = this.#blockByKey.get(key);
      if (cached === undefined) break;
      chain.push([key, cached]);
      parent = cached.id;
    }
    return chain;
  }

  /** Makes the chain the one used last, its begin more so than its end. */
  #touch(chain: readonly [BlockKey, CachedBlock][]): void {
    for (const [key, cached] of chain.toReversed()) {
      this.#blockByKey.delete(key);
      this.#blockByKey.set(key, cached);
    }
  }
}

/** The first block's parent is its tenant: a name in quotes, which no number is. */
function keyOf(parent: number | TenantId, tokenIds: readonly TokenId[], start: number): BlockKey {
  return `${JSON.stringify(parent)} ${tokenIds.slice(start, start + BLOCK_SIZE).join(' ')}`;
}
