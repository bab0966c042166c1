import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { TAIL_CAPACITY } from '../../../worker/cache/layout.ts';
import { type MaskedChunk, unmask } from '../../../worker/cache/mask.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';

const MASKED = -1;

/** Columns that each new token may look at, by asking of every column which position it holds. */
function naiveColumns(
  frozenCapacity: number,
  { numCached, numTokens }: MaskedChunk,
  slidingWindow: number | null,
): number[][] {
  const numFrozen = Math.floor(numCached / BLOCK_SIZE) * BLOCK_SIZE;
  const positionOf = (column: number) => {
    if (column < frozenCapacity) return column < numFrozen ? column : null;
    return numFrozen + column - frozenCapacity;
  };
  return Array.from({ length: numTokens }, (_, i) => {
    const own = numCached + i;
    const columns = Array.from({ length: frozenCapacity + TAIL_CAPACITY }, (_, column) => column);
    return columns.filter((column) => {
      const position = positionOf(column);
      if (position === null || position > own) return false;
      return slidingWindow === null || own - position < slidingWindow;
    });
  });
}

/** Columns that `unmask` leaves open, for each of `numNewTokens` tokens. */
function openColumns(
  frozenCapacity: number,
  chunk: MaskedChunk,
  { slidingWindow, numNewTokens }: { slidingWindow: number | null; numNewTokens: number },
): number[][] {
  const numColumns = frozenCapacity + TAIL_CAPACITY;
  const mask = new Float32Array(numNewTokens * numColumns).fill(MASKED);
  unmask(mask, { sinkCapacity: 0, frozenCapacity }, chunk, slidingWindow);
  return Array.from({ length: numNewTokens }, (_, i) =>
    [...mask.subarray(i * numColumns, (i + 1) * numColumns)].flatMap((value, column) =>
      value === 0 ? [column] : [],
    ),
  );
}

describe('unmask', () => {
  it('opens what was read before and the token itself', () => {
    const open = openColumns(64, { numCached: 2, numTokens: 2 }, whole(2));
    expect(open).toEqual([
      [64, 65, 66],
      [64, 65, 66, 67],
    ]);
  });

  it('leaves what is behind the window masked', () => {
    const options = { slidingWindow: 3, numNewTokens: 1 };
    expect(openColumns(64, { numCached: 65, numTokens: 1 }, options)).toEqual([[63, 64, 65]]);
    expect(openColumns(64, { numCached: 67, numTokens: 1 }, options)).toEqual([[65, 66, 67]]);
  });

  it('leaves padded tokens masked', () => {
    expect(openColumns(64, { numCached: 0, numTokens: 1 }, whole(3))).toEqual([[64], [], []]);
  });

  it('opens what asking every column opens', () => {
    const rng = seededRng(3);
    for (let trial = 0; trial < 400; trial += 1) {
      const numCached = integerFrom(rng, 0, 257);
      const numTokens = integerFrom(rng, 1, BLOCK_SIZE - (numCached % BLOCK_SIZE) + 1);
      const chunk = { numCached, numTokens };
      const slidingWindow = pickFrom(rng, [null, 1, 2, 63, 64, 65, 100, 1000]);

      const open = openColumns(256, chunk, { slidingWindow, numNewTokens: numTokens });

      expect(open).toEqual(naiveColumns(256, chunk, slidingWindow));
    }
  });
});

function whole(numNewTokens: number) {
  return { slidingWindow: null, numNewTokens };
}
