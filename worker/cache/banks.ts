import { invariant } from '../../shared/assert.ts';
import { Bank } from './bank.ts';
import type { SinkWindow } from './columns.ts';
import { type CacheShape, rowBytes } from './layout.ts';
import { type CacheRow, Row } from './row.ts';

/** Rows of one frozen capacity, in the order in which the model reads them. */
export interface RowGroup {
  readonly frozenCapacity: number;
  readonly rows: readonly CacheRow[];
}

/** A bank with at most one row in so many of its places gives half of them back. */
const SHRINK_AT = 4;

/**
 * The memory of a cache: banks by their capacity, each with its rows packed from 0, and parked rows
 * with a bank for each. A bank has places for its rows and, where there is memory, for as many
 * again; one without rows is gone.
 */
export class Banks {
  readonly #shape: CacheShape;
  readonly #maxBytes: number;
  readonly #rowsByBank = new Map<Bank, Row[]>();
  readonly #parked = new Set<Row>(); // longest ago first

  constructor(shape: CacheShape, maxBytes: number) {
    this.#shape = shape;
    this.#maxBytes = maxBytes;
  }

  /** Those that the model reads. */
  get rows(): Row[] {
    return [...this.#rowsByBank.values()].flat();
  }

  /** Rows side by side in memory, shortest capacity first. */
  get groups(): RowGroup[] {
    return [...this.#rowsByBank]
      .map(([{ frozenCapacity }, rows]) => ({ frozenCapacity, rows }))
      .sort((a, b) => a.frozenCapacity - b.frozenCapacity);
  }

  get numBytes(): number {
    const banks = [...this.#rowsByBank.keys(), ...Array.from(this.#parked, ({ bank }) => bank)];
    return banks.reduce((sum, { numBytes }) => sum + numBytes, 0);
  }

  get isOverBudget(): boolean {
    return this.numBytes > this.#maxBytes;
  }

  /** @returns `null` where no row has that capacity */
  bankOf(frozenCapacity: number): Bank | null {
    for (const bank of this.#rowsByBank.keys()) {
      if (bank.frozenCapacity === frozenCapacity) return bank;
    }
    return null;
  }

  /** The row as it is known here, `null` when it was released or is parked. */
  find(row: CacheRow): Row | null {
    const bank = this.bankOf(row.frozenCapacity);
    const found = bank && this.#rowsByBank.get(bank)?.[row.index];
    return found === row ? found : null;
  }

  /** The same of a parked row; `null` when it had to go. */
  findParked(row: CacheRow): Row | null {
    for (const parked of this.#parked) if (parked === row) return parked;
    return null;
  }

  /** Adds an empty row. */
  open(frozenCapacity: number, sinkWindow: SinkWindow | null): Row {
    const bank = this.#claim(frozenCapacity);
    const rows = this.#rowsOf(bank);
    const row = new Row(bank, rows.length, sinkWindow);
    rows.push(row);
    return row;
  }

  close(row: Row): void {
    if (this.#parked.delete(row)) row.bank.free();
    else this.#vacate(row.bank, row.index);
  }

  move(row: Row, frozenCapacity: number): void {
    const { bank, index } = row;
    this.#add(row, frozenCapacity);
    this.#vacate(bank, index);
  }

  /** Takes a row away from those that the model reads. */
  park(row: Row, frozenCapacity: number): void {
    const { bank, index } = row;
    row.moveTo(new Bank(this.#shape, 1, frozenCapacity), 0);
    this.#vacate(bank, index);
    this.#parked.add(row);
  }

  unpark(row: Row): void {
    const { bank, frozenCapacity } = row;
    this.#parked.delete(row);
    this.#add(row, frozenCapacity);
    bank.free();
  }

  /** Gives back what no row has. */
  trim(): void {
    for (const [bank, rows] of [...this.#rowsByBank]) {
      if (rows.length < bank.numRows) this.#resize(bank, rows.length);
    }
  }

  /** Lets the row go that was parked last. @returns whether there was one */
  dropParked(): boolean {
    const last = [...this.#parked].at(-1);
    if (last !== undefined) this.close(last);
    return last !== undefined;
  }

  #rowsOf(bank: Bank): Row[] {
    const rows = this.#rowsByBank.get(bank);
    invariant(rows !== undefined, 'a bank that is gone');
    return rows;
  }

  #add(row: Row, frozenCapacity: number): void {
    const bank = this.#claim(frozenCapacity);
    const rows = this.#rowsOf(bank);
    row.moveTo(bank, rows.length);
    rows.push(row);
  }

  /** Frees a place; the last row of the bank fills the gap. */
  #vacate(bank: Bank, index: number): void {
    const rows = this.#rowsOf(bank);
    if (index < rows.length - 1) rows.at(-1)!.moveTo(bank, index);
    const last = rows.pop()!;
    if (index < rows.length) rows[index] = last;
    if (rows.length === 0) {
      this.#rowsByBank.delete(bank);
      bank.free();
    } else if (rows.length * SHRINK_AT <= bank.numRows) {
      this.#resize(bank, Math.floor(bank.numRows / 2));
    }
  }

  /** A bank that has a place for one row more. */
  #claim(frozenCapacity: number): Bank {
    const bank = this.bankOf(frozenCapacity);
    if (bank === null) return this.#create(1, frozenCapacity, []);
    const { length } = this.#rowsOf(bank);
    if (length < bank.numRows) return bank;
    const moreBytes = length * rowBytes(this.#shape, frozenCapacity);
    const isAffordable = this.numBytes + moreBytes <= this.#maxBytes;
    return this.#resize(bank, isAffordable ? 2 * length : length + 1);
  }

  #create(numRows: number, frozenCapacity: number, rows: Row[]): Bank {
    const bank = new Bank(this.#shape, numRows, frozenCapacity);
    this.#rowsByBank.set(bank, rows);
    return bank;
  }

  #resize(bank: Bank, numRows: number): Bank {
    const rows = this.#rowsOf(bank);
    this.#rowsByBank.delete(bank);
    const resized = this.#create(numRows, bank.frozenCapacity, rows);
    for (const row of rows) row.moveTo(resized, row.index);
    bank.free();
    return resized;
  }
}
