import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { Bank } from './bank.ts';
import { numKeptTokens, type SinkWindow } from './columns.ts';

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

/** The same, as its owner moves it. */
export class Row implements CacheRow {
  bank: Bank;
  index: number;
  numTokens = 0;
  readonly sinkWindow: SinkWindow | null;

  constructor(bank: Bank, index: number, sinkWindow: SinkWindow | null) {
    this.bank = bank;
    this.index = index;
    this.sinkWindow = sinkWindow;
  }

  get frozenCapacity(): number {
    return this.bank.frozenCapacity;
  }

  /** Tokens in full blocks, as far as they are kept. */
  get numFrozenTokens(): number {
    return numKeptTokens(this.numTokens - (this.numTokens % BLOCK_SIZE), this.sinkWindow);
  }

  /**
   * Whether the block that was filled last has taken the columns of another, and nothing has come
   * behind it.
   */
  get hasTurned(): boolean {
    const { numTokens, sinkWindow } = this;
    return numTokens % BLOCK_SIZE === 0 && numKeptTokens(numTokens, sinkWindow) < numTokens;
  }

  /** Takes what it holds to another place. */
  moveTo(bank: Bank, index: number): void {
    // A full tail that is about to be frozen is no frozen block yet.
    const numSlots = Math.min(this.numFrozenTokens, this.frozenCapacity) / BLOCK_SIZE;
    bank.copyRow(index, this.bank, this.index, numSlots);
    if (this.sinkWindow) bank.copySinks(index, this.bank, this.index);
    this.bank = bank;
    this.index = index;
  }
}
