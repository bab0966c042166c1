import { invariant } from '../../shared/assert.ts';
import { Bank, type BankLayer, type FrozenBlock } from './bank.ts';
import { isWorthMoving, planBanks } from './bank-plan.ts';
import { numKeptTokens, type SinkWindow, slotOf } from './columns.ts';
import { BLOCK_SIZE, type CacheShape, frozenCapacityFor } from './layout.ts';
import type { NewTokens } from './new-columns.ts';

/** A running sequence's place in the cache. Its bank and index change as rows come, grow and go. */
export interface CacheRow {
  readonly frozenCapacity: number;
  /** Among the rows of its bank. */
  readonly index: number;
  /** Leading tokens whose keys and values are here, or were until newer ones took their columns. */
  readonly numTokens: number;
  /** What is kept of a text that goes on forever; `null` to keep all. */
  readonly sinkWindow: SinkWindow | null;
}

/** Rows of one frozen capacity, in the order in which the model reads them. */
export interface RowGroup {
  readonly frozenCapacity: number;
  readonly rows: readonly CacheRow[];
}

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

interface Row {
  bank: Bank;
  index: number;
  numTokens: number;
  readonly frozenCapacity: number;
  readonly sinkWindow: SinkWindow | null;
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
  readonly #shape: CacheShape;
  readonly #maxRows: number;
  /** Banks that were ever needed: together at most twice the largest, and fresh memory is dear. */
  readonly #bankByCapacity = new Map<number, Bank>();
  readonly #rowsByBank = new Map<Bank, Row[]>(); // those that hold rows
  readonly #views = new Map<string, readonly BankLayer[]>();

  constructor(shape: CacheShape, maxRows: number) {
    this.#shape = shape;
    this.#maxRows = maxRows;
  }

  get numRows(): number {
    return this.#rows.length;
  }

  /** Rows side by side in memory, shortest capacity first. */
  get groups(): RowGroup[] {
    return [...this.#rowsByBank]
      .map(([{ frozenCapacity }, rows]) => ({ frozenCapacity, rows }))
      .sort((a, b) => a.frozenCapacity - b.frozenCapacity);
  }

  /** Adds an empty row. */
  open(sinkWindow: SinkWindow | null = null): CacheRow {
    invariant(this.numRows < this.#maxRows, 'more rows than the cache has');
    const row = this.#place(BLOCK_SIZE, sinkWindow);
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
    this.#unplace(this.#own(row));
    this.#rebalance();
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
    this.#grow(row, row.numTokens);
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
        (numTokens === owned.numTokens || !hasTurned(owned)),
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
    this.#grow(owned, owned.numTokens);
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
    const key = `${frozenCapacity} ${start} ${end}`;
    const known = this.#views.get(key);
    if (known !== undefined) return known;

    const bank = this.#bankOf(frozenCapacity);
    invariant(bank !== null, `no row has capacity ${frozenCapacity}`);
    const range = (part: Float32Array) => {
      const length = part.length / this.#maxRows;
      return part.subarray(start * length, end * length);
    };
    const layers = bank.layers.map((layer) => ({
      frozenKeys: range(layer.frozenKeys),
      frozenValues: range(layer.frozenValues),
      tailKeys: range(layer.tailKeys),
      tailValues: range(layer.tailValues),
      sinkKeys: range(layer.sinkKeys),
      sinkValues: range(layer.sinkValues),
    }));
    this.#views.set(key, layers);
    return layers;
  }

  get #rows(): Row[] {
    return [...this.#rowsByBank.values()].flat();
  }

  #own(row: CacheRow): Row {
    const bank = this.#bankOf(row.frozenCapacity);
    const owned = bank && this.#rowsByBank.get(bank)?.[row.index];
    invariant(owned === row, 'a row that was released');
    return owned;
  }

  #bankOf(frozenCapacity: number): Bank | null {
    for (const bank of this.#rowsByBank.keys()) {
      if (bank.frozenCapacity === frozenCapacity) return bank;
    }
    return null;
  }

  /** Makes room in the frozen part for `numTokens`, as far as they are kept. */
  #grow(row: Row, numTokens: number): void {
    const numKept = numKeptTokens(numTokens, row.sinkWindow);
    if (numKept <= row.frozenCapacity) return;
    this.#move(row, frozenCapacityFor(numKept));
    this.#rebalance();
  }

  /** Moves rows to the banks that make the next steps cheapest, if that is much cheaper. */
  #rebalance(): void {
    const rows = this.#rows;
    const planned = planBanks(rows.map((row) => frozenCapacityFor(numFrozenTokens(row))));
    const current = rows.map(({ frozenCapacity }) => frozenCapacity);
    if (!isWorthMoving(current, planned)) return;
    for (const [i, row] of rows.entries()) {
      if (row.frozenCapacity !== planned[i]) this.#move(row, planned[i]!);
    }
  }

  #move(row: Row, frozenCapacity: number): void {
    const { bank, index } = row;
    const place = this.#place(frozenCapacity, row.sinkWindow);
    place.bank.copyRow(place.index, bank, index, numSlots(row));
    if (row.sinkWindow) place.bank.copySinks(place.index, bank, index);
    this.#unplace(row);
    this.#rowsByBank.get(place.bank)![place.index] = row;
    row.bank = place.bank;
    row.index = place.index;
  }

  /** Adds an empty row at the end of a bank, making the bank when there is none. */
  #place(frozenCapacity: number, sinkWindow: SinkWindow | null): Row {
    const bank =
      this.#bankByCapacity.get(frozenCapacity) ??
      new Bank(this.#shape, this.#maxRows, frozenCapacity);
    this.#bankByCapacity.set(frozenCapacity, bank);
    const rows = this.#rowsByBank.get(bank) ?? [];
    this.#rowsByBank.set(bank, rows);
    const row: Row = {
      bank,
      index: rows.length,
      numTokens: 0,
      sinkWindow,
      get frozenCapacity() {
        return this.bank.frozenCapacity;
      },
    };
    rows.push(row);
    return row;
  }

  /** Takes a row out of its bank; the last one fills the gap. */
  #unplace(row: Row): void {
    const rows = this.#rowsByBank.get(row.bank)!;
    const last = rows.pop()!;
    if (last !== row) {
      row.bank.copyRow(row.index, row.bank, last.index, numSlots(last));
      if (last.sinkWindow) row.bank.copySinks(row.index, row.bank, last.index);
      last.index = row.index;
      rows[last.index] = last;
    }
    if (rows.length === 0) this.#rowsByBank.delete(row.bank);
  }
}

/** Tokens in full blocks, as far as they are kept. */
function numFrozenTokens({ numTokens, sinkWindow }: CacheRow): number {
  return numKeptTokens(numTokens - (numTokens % BLOCK_SIZE), sinkWindow);
}

/**
 * Frozen blocks of the row that its bank holds; a full tail that is about to be frozen is none yet.
 */
function numSlots(row: CacheRow): number {
  return Math.min(numFrozenTokens(row), row.frozenCapacity) / BLOCK_SIZE;
}

/**
 * Whether the block that was filled last has taken the columns of another, and nothing has come
 * behind it.
 */
function hasTurned({ numTokens, sinkWindow }: CacheRow): boolean {
  return numTokens % BLOCK_SIZE === 0 && numKeptTokens(numTokens, sinkWindow) < numTokens;
}
