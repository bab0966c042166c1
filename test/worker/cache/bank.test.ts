import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { Bank } from '../../../worker/cache/bank.ts';
import { TAIL_CAPACITY } from '../../../worker/cache/layout.ts';
import { newTokensOf } from '../../support/naive-cache.ts';

const shape = { numLayers: 1, numKvHeads: 2, headDim: 1 };
const call = { numNewTokens: 3, row: 1, numRows: 2 };

/** One head's part of a row's tail or frozen columns. */
function columnsOf(part: Float32Array, capacity: number, row: number, head: number): number[] {
  const start = (row * shape.numKvHeads + head) * capacity;
  return [...part.subarray(start, start + capacity)];
}

function bankOf(): Bank {
  return new Bank(shape, 3, 128);
}

describe('Bank', () => {
  it('appends the first tokens of one row of a call, head by head', () => {
    const bank = bankOf();
    bank.appendToTail(2, 1, 2, newTokensOf(shape, [1, 2, 3], call));

    const { tailKeys, tailValues } = bank.layers[0]!;
    expect(columnsOf(tailKeys, TAIL_CAPACITY, 2, 0).slice(0, 4)).toEqual([0, 256, 512, 0]);
    expect(columnsOf(tailKeys, TAIL_CAPACITY, 2, 1).slice(0, 4)).toEqual([0, 264, 520, 0]);
    expect(columnsOf(tailValues, TAIL_CAPACITY, 2, 0).slice(0, 4)).toEqual([0, 384, 640, 0]);
    expect(columnsOf(tailKeys, TAIL_CAPACITY, 1, 1)).toEqual(Array(TAIL_CAPACITY).fill(0));
  });

  it.each([1, 2, 3])('copies every number of columns that are %i wide', (headDim) => {
    const wide = { numLayers: 2, numKvHeads: 2, headDim };
    const bank = new Bank(wide, 2, 64);
    bank.appendToTail(1, 5, 2, newTokensOf(wide, [1, 2], call));

    const numbers = bank.layers.map(({ tailValues }) => {
      const start = (3 * TAIL_CAPACITY + 5) * headDim; // the second row's second head
      return [...tailValues.subarray(start - 1, start + 2 * headDim + 1)];
    });
    const columns = (first: number) =>
      [256, 512].flatMap((token) => Array.from({ length: headDim }, (_, d) => token + first + d));
    expect(numbers).toEqual([
      [0, ...columns(136), 0],
      [0, ...columns(168), 0],
    ]);
  });

  it('refuses tokens beyond the end of the block', () => {
    const fresh = newTokensOf(shape, [1, 2, 3], call);
    expect(() => bankOf().appendToTail(0, 62, 3, fresh)).toThrow(InvariantError);
    expect(() => bankOf().appendToTail(0, 62, 2, fresh)).not.toThrow();
  });

  it('freezes a tail into its slot and leaves the others alone', () => {
    const bank = bankOf();
    const tokens = Array.from({ length: BLOCK_SIZE }, (_, i) => i + 1);
    const whole = { numNewTokens: BLOCK_SIZE, row: 0, numRows: 1 };
    bank.appendToTail(1, 0, BLOCK_SIZE, newTokensOf(shape, tokens, whole));
    bank.freezeTail(1, 1);

    const frozen = columnsOf(bank.layers[0]!.frozenKeys, 128, 1, 1);
    const expected = tokens.map((token) => token * 256 + 8);
    expect(frozen).toEqual([...Array<number>(BLOCK_SIZE).fill(0), ...expected]);
    expect(columnsOf(bank.layers[0]!.frozenKeys, 128, 2, 0)).toEqual(Array(128).fill(0));
  });

  it('reads back the block that was written, as a copy', () => {
    const bank = bankOf();
    const part = (start: number) =>
      Float32Array.from({ length: shape.numKvHeads * BLOCK_SIZE }, (_, i) => start + i);
    const block = { keys: [part(1)], values: [part(1000)] };
    bank.writeBlock(2, 1, block);
    const read = bank.readBlock(2, 1);
    bank.writeBlock(2, 1, { keys: [part(7)], values: [part(8)] });

    expect(read).toEqual(block);
    expect(bank.readBlock(2, 1).values[0]).toEqual(part(8));
  });

  it('copies a row with its tail into a bank of another capacity', () => {
    const [source, target] = [new Bank(shape, 2, 64), bankOf()];
    const part = Float32Array.from({ length: shape.numKvHeads * BLOCK_SIZE }, (_, i) => i + 1);
    source.writeBlock(1, 0, { keys: [part], values: [part] });
    source.appendToTail(1, 0, 3, newTokensOf(shape, [1, 2, 3], call));
    target.copyRow(2, source, 1, 1);

    expect(target.readBlock(2, 0).keys[0]).toEqual(part);
    expect(target.readBlock(2, 1).keys[0]).toEqual(new Float32Array(part.length));
    const tail = columnsOf(target.layers[0]!.tailValues, TAIL_CAPACITY, 2, 1);
    expect(tail.slice(0, 4)).toEqual([392, 648, 904, 0]);
  });
});
