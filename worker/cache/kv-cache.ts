import { invariant } from '../../shared/assert.ts';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { BankLayer, FrozenBlock } from './bank.ts';
import { isWorthMoving, planBanks } from './bank-plan.ts';
import { Banks, type RowGroup } from './banks.ts';
import { numKeptTokens, type SinkWindow, slotOf } from './columns.ts';
import { type CacheShape, frozenCapacityFor, rowBytes, wholeBlocks } from './layout.ts';
import type { NewTokens } from './new-columns.ts';
import type { CacheRow, Row } from './row.ts';

/** Columns that were computed before, one behind the other. */
export interface KnownColumns {
  readonly blocks: readonly FrozenBlock[];
  readonly part: PartOfBlock | null;
}

/** The first columns of a block that a row goes on from in its own way. */
export interface PartOfBlock {
  readonly block: FrozenBlock;
  /** Less than a block. */
  readonly numTokens: number;
}

export interface MemoryLimits {
  /** Memory, but for the moment in which rows move; absent for as much as it takes. */
  readonly maxBytes?: number;
  /** Frozen tokens that one row may have, a multiple of 64; absent for any number. */
  readonly maxCapacity?: number;
}

/**
 * Keys and values of all running sequences: per row, frozen blocks of 64 positions and a tail that
 * fills.
 *
 * Only what is appended here exists: keys of rejected drafts never arrive. Frozen blocks are
 * immutable. The rows of a bank are packed from 0, so a batch is a view; rows move only when one
 * comes, grows or goes. The frozen blocks of a row whose window slides are a ring, and its first
 * block is kept beside it for the sinks.
 *
 * Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
 * arXiv:2309.06180, of which this keeps the blocks and not the indirection.
 */
export class KvCache {
  readonly maxBytes: number;
  readonly #shape: CacheShape;
  readonly #maxRows: number;
  readonly #maxCapacity: number;
  readonly #banks: Banks;

  constructor(shape: CacheShape, maxRows: number, limits: MemoryLimits = {}) {
    this.#shape = shape;
    this.#maxRows = maxRows;
    this.maxBytes = limits.maxBytes ?? Infinity;
    this.#maxCapacity = limits.maxCapacity ?? Infinity;
    this.#banks = new Banks(shape, this.maxBytes);
  }

  get numRows(): number {
    return this.#banks.rows.length;
  }

  /** Memory of rows and of those that are parked. */
  get numBytes(): number {
    return this.#banks.numBytes;
  }

  /** Rows side by side in memory, shortest capacity first. */
  get groups(): RowGroup[] {
    return this.#banks.groups;
  }

  /** Memory that a row of so many tokens needs until the block that it fills is full. */
  bytesFor(numTokens: number, sinkWindow: SinkWindow | null): number {
    const numKept = numKeptTokens(wholeBlocks(numTokens + 1), sinkWindow);
    return rowBytes(this.#shape, frozenCapacityFor(numKept, this.#maxCapacity));
  }

  /** Adds an empty row. */
  open(sinkWindow: SinkWindow | null = null): CacheRow {
    invariant(this.numRows < this.#maxRows, 'more rows than the cache has');
    const row = this.#banks.open(BLOCK_SIZE, sinkWindow);
    this.#rebalance();
    return row;
  }

  /** Forgets all that a row holds. */
  clear(row: CacheRow): void {
    this.#own(row).numTokens = 0;
    this.#rebalance();
  }

  /** Gives a row's place to others. */
  release(row: CacheRow): void {
    this.#banks.close(this.#own(row));
    this.#rebalance();
  }

  /**
   * Gives a row's place to others, and keeps what it holds beside them for as long as nobody needs
   * the memory.
   *
   * @returns whether there is memory for it; else it is released
   */
  park(row: CacheRow): boolean {
    const owned = this.#own(row);
    this.#banks.park(owned, this.#leastCapacity(owned));
    this.#rebalance();
    return this.#banks.findParked(row) !== null;
  }

  /** Gives a parked row a place again. @returns `false` when it had to go */
  unpark(row: CacheRow): boolean {
    const parked = this.#banks.findParked(row);
    if (parked === null) return false;
    invariant(this.numRows < this.#maxRows, 'more rows than the cache has');
    this.#banks.unpark(parked);
    this.#rebalance();
    return true;
  }

  /** Forgets a parked row, if it is still there. */
  discard(row: CacheRow): void {
    const parked = this.#banks.findParked(row);
    if (parked !== null) this.#banks.close(parked);
  }

  /**
   * Whether the first `count` new tokens may be appended. NaN may not: what a row leaves behind is
   * masked for those that come after it, and a masked column must be finite to add an exact zero.
   */
  accepts(count: number, { columns, row }: NewTokens): boolean {
    return columns.areFinite(row, count);
  }

  /** Appends the first `count` of the row's new tokens; a tail that fills is frozen. */
  append(row: CacheRow, count: number, from: NewTokens): void {
    const owned = this.#own(row);
    const { bank, index, numTokens } = owned;
    bank.appendToTail(index, numTokens % BLOCK_SIZE, count, from);
    const isFirstBlock = numTokens < BLOCK_SIZE;
    if (owned.sinkWindow && isFirstBlock) bank.appendToSinks(index, numTokens, count, from);
    owned.numTokens += count;
    if (count > 0 && owned.numTokens % BLOCK_SIZE === 0) this.#freeze(owned);
  }

  #freeze(row: Row): void {
    this.#grow(row);
    row.bank.freezeTail(row.index, slotOf(row.numTokens / BLOCK_SIZE - 1, row.sinkWindow));
  }

  /**
   * Forgets what was appended last, as when a draft model's own draft was wrong. Reaches back to
   * the begin of the block that was filled last: until something is appended behind it, the tail
   * still holds it.
   */
  truncate(row: CacheRow, numTokens: number): void {
    const owned = this.#own(row);
    const blockStart = Math.floor((owned.numTokens - 1) / BLOCK_SIZE) * BLOCK_SIZE;
    invariant(
      numTokens >= blockStart &&
        numTokens <= owned.numTokens &&
        (numTokens === owned.numTokens || !owned.hasTurned),
      `a row of ${owned.numTokens} tokens cannot be cut to ${numTokens}`,
    );
    owned.numTokens = numTokens;
  }

  /** Appends what was computed before, as from the prefix cache. The row's tail must be empty. */
  appendKnown(row: CacheRow, { blocks, part }: KnownColumns): void {
    const owned = this.#own(row);
    invariant(owned.numTokens % BLOCK_SIZE === 0, 'a block goes behind a full one');
    const firstBlock = owned.numTokens / BLOCK_SIZE;
    owned.numTokens += blocks.length * BLOCK_SIZE; // first, since what moves rows goes by it
    this.#grow(owned);
    const { bank, index, sinkWindow } = owned;
    for (const [i, block] of blocks.entries()) {
      bank.writeBlock(index, slotOf(firstBlock + i, sinkWindow), block);
    }
    if (part !== null) {
      bank.writeTail(index, part.block, part.numTokens);
      owned.numTokens += part.numTokens;
    }
    const first = blocks[0] ?? part?.block;
    if (firstBlock === 0 && sinkWindow && first) bank.writeSinks(index, first);
  }

  /** A copy of the frozen block that starts at position `slot * BLOCK_SIZE`. */
  readBlock(row: CacheRow, slot: number): FrozenBlock {
    const owned = this.#own(row);
    invariant((slot + 1) * BLOCK_SIZE <= owned.numTokens, `block ${slot} is not frozen yet`);
    const numKept = numKeptTokens(owned.numTokens, owned.sinkWindow);
    invariant(numKept === owned.numTokens, 'a row whose ring has turned');
    return owned.bank.readBlock(owned.index, slot);
  }

  /**
   * What the model reads of rows `start` to `end` of a group. The same range gives the same views.
   */
  view(frozenCapacity: number, start: number, end: number): readonly BankLayer[] {
    const bank = this.#banks.bankOf(frozenCapacity);
    invariant(bank !== null, `no row has capacity ${frozenCapacity}`);
    return bank.view(start, end);
  }

  #own(row: CacheRow): Row {
    const owned = this.#banks.find(row);
    invariant(owned !== null, 'a row that was released');
    return owned;
  }

  #capacityFor(numTokens: number): number {
    invariant(numTokens <= this.#maxCapacity, `${numTokens} tokens in a row`);
    return frozenCapacityFor(numTokens, this.#maxCapacity);
  }

  #leastCapacity(row: Row): number {
    return this.#capacityFor(row.numFrozenTokens);
  }

  /** Makes room in the frozen part for all that a row keeps of its tokens. */
  #grow(row: Row): void {
    const { numTokens, sinkWindow, frozenCapacity } = row;
    const numKept = numKeptTokens(numTokens, sinkWindow);
    if (numKept <= frozenCapacity) return;
    this.#banks.move(row, this.#capacityFor(numKept));
    this.#rebalance();
  }

  /**
   * Moves rows to the banks that make the next steps cheapest, if that is much cheaper and there is
   * memory for it.
   */
  #rebalance(): void {
    const { rows } = this.#banks;
    const least = rows.map((row) => this.#leastCapacity(row));
    const planned = planBanks(least);
    const numBytes = planned.reduce((sum, each) => sum + rowBytes(this.#shape, each), 0);
    const capacities = numBytes <= this.maxBytes ? planned : least;
    const current = rows.map(({ frozenCapacity }) => frozenCapacity);
    if (isWorthMoving(current, capacities)) this.#moveTo(rows, capacities);
    if (!this.#banks.isOverBudget) return;
    this.#moveTo(rows, least);
    this.#banks.trim();
    while (this.#banks.isOverBudget && this.#banks.dropParked());
  }

  #moveTo(rows: readonly Row[], capacities: readonly number[]): void {
    for (const [i, row] of rows.entries()) {
      if (row.frozenCapacity !== capacities[i]) this.#banks.move(row, capacities[i]!);
    }
  }
}
