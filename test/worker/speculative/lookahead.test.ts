import { describe, expect, it } from 'vitest';
import { Lookahead } from '../../../worker/speculative/lookahead.ts';
import { LookaheadWindow, type SideTokens } from '../../../worker/speculative/lookahead-window.ts';
import { NgramPool } from '../../../worker/speculative/ngram-pool.ts';
import { verify } from '../../../worker/speculative/verify.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

/** A model whose next token is a function of the last two. */
type Model = (secondLast: number, last: number) => number;

function randomModel(seed: number, vocabSize: number): Model {
  const rng = seededRng(seed);
  const table = Array.from({ length: vocabSize ** 2 }, () => integerFrom(rng, 0, vocabSize));
  return (secondLast, last) => table[secondLast * vocabSize + last]!;
}

/** Runs the model on the side tokens from `firstWanted` on, each on what it may see. */
function runSide(model: Model, sequence: readonly number[], side: SideTokens): number[] {
  return side.visible.slice(side.firstWanted).map((visible) => {
    const text = [...sequence];
    for (const i of visible) text[sequence.length - 1 + side.offsets[i]!] = side.tokenIds[i]!;
    return model(text[text.length - 2]!, text[text.length - 1]!);
  });
}

describe('LookaheadWindow', () => {
  it('shows each guess the oldest ones up to its column and its own column', () => {
    const window = new LookaheadWindow({ numColumns: 5, ngramLength: 4 }, [1]);
    for (let i = 0; i < 3; i += 1) window.take([2, 2, 2, 2, 2], 1);
    const { tokenIds, offsets, visible, firstWanted } = window.sideTokens();

    expect(tokenIds).toHaveLength(15);
    expect(firstWanted).toBe(10);
    expect(offsets).toEqual([1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]);
    expect(visible[3]).toEqual([0, 1, 2, 3]);
    const newestFor6 = visible[13]!;
    expect(newestFor6).toEqual([0, 1, 2, 3, 8, 13]);
    expect(newestFor6.map((i) => offsets[i])).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it.each([2, 3, 5])('shows one token for each offset at every step with N = %d', (ngramLength) => {
    const rng = seededRng(ngramLength);
    const window = new LookaheadWindow({ numColumns: 4, ngramLength }, [1, 2, 3]);
    for (let step = 0; step < 50; step += 1) {
      const { offsets, visible } = window.sideTokens();
      for (const [i, seen] of visible.entries()) {
        const expected = Array.from({ length: offsets[i]! }, (_, j) => j + 1);
        expect(seen.map((j) => offsets[j])).toEqual(expected);
        expect(seen.at(-1)).toBe(i);
      }
      window.take([1, 2, 3, 4], integerFrom(rng, 1, 7));
    }
  });

  it('is a Jacobi iteration when N is 2', () => {
    const numColumns = 6;
    const model = randomModel(3, 20);
    const rng = seededRng(4);
    const sequence = [1, 2];
    const window = new LookaheadWindow({ numColumns, ngramLength: 2 }, [5, 6, 7]);
    let guesses = new Map(window.sideTokens().tokenIds.map((tokenId, i) => [2 + i, tokenId]));

    for (let step = 0; step < 100; step += 1) {
      const side = window.sideTokens();
      const numTaken = rng() < 0.8 ? 1 : 3;
      // y'[i] = model(y[..i]) for all positions at once, as Jacobi has it.
      const end = sequence.length + numColumns;
      const text = Array.from({ length: end }, (_, i) => sequence[i] ?? guesses.get(i)!);
      guesses = new Map();
      for (let i = sequence.length + 1; i <= end; i += 1) {
        guesses.set(i, model(text[i - 2]!, text[i - 1]!));
      }

      window.take(runSide(model, sequence, side), numTaken);
      for (let i = 0; i < numTaken; i += 1)
        sequence.push(model(sequence.at(-2)!, sequence.at(-1)!));
      for (const [c, tokenId] of window.sideTokens().tokenIds.entries()) {
        const position = sequence.length + c;
        if (guesses.has(position)) expect(tokenId).toBe(guesses.get(position));
        else guesses.set(position, tokenId); // filled afresh
      }
    }
  });

  it.each([3, 4, 6])('collects n-grams of the model only, N = %d', (ngramLength) => {
    const model = randomModel(5, 30);
    const rng = seededRng(6);
    const window = new LookaheadWindow({ numColumns: 5, ngramLength }, [9, 8, 7, 6]);
    const sequence = [1, 2];
    let numNgrams = 0;
    for (let step = 0; step < 200; step += 1) {
      const numTaken = rng() < 0.7 ? 1 : integerFrom(rng, 2, 8);
      const ngrams = window.take(runSide(model, sequence, window.sideTokens()), numTaken);
      for (let i = 0; i < numTaken; i += 1)
        sequence.push(model(sequence.at(-2)!, sequence.at(-1)!));
      for (const ngram of ngrams) {
        expect(ngram).toHaveLength(ngramLength);
        for (let i = 2; i < ngramLength; i += 1) {
          expect(ngram[i]).toBe(model(ngram[i - 2]!, ngram[i - 1]!));
        }
      }
      numNgrams += ngrams.length;
    }
    expect(numNgrams).toBeGreaterThan(200);
  });
});

describe('Lookahead', () => {
  it.each([3, 4, 5])('gives the plain text in fewer steps, N = %d', (ngramLength) => {
    const model = randomModel(7, 12);
    const plain = [1, 2];
    while (plain.length < 202) plain.push(model(plain.at(-2)!, plain.at(-1)!));

    const sequence = [1, 2];
    const lookahead = new Lookahead(sequence, { numColumns: 7, ngramLength });
    let numSteps = 0;
    while (sequence.length < plain.length) {
      const drafted = lookahead.propose(sequence.at(-1)!, 6)?.tokenIds ?? [];
      const next = runSide(model, sequence, lookahead.sideTokens());
      const target = {
        isOver: false,
        next: () => {
          const tokenId = model(sequence.at(-2)!, sequence.at(-1)!);
          sequence.push(tokenId);
          return tokenId;
        },
      };
      lookahead.take(next, verify(drafted, target) + 1);
      numSteps += 1;
    }

    expect(sequence.slice(0, plain.length)).toEqual(plain);
    expect(numSteps).toBeLessThan(200 / 1.5);
  });

  it('proposes nothing before it has seen anything', () => {
    expect(new Lookahead([1, 2]).propose(2, 4)).toBeNull();
  });
});

describe('NgramPool', () => {
  it('follows the latest n-gram of a token, and of the last of that', () => {
    const pool = new NgramPool(10);
    pool.add([1, 2, 3]);
    pool.add([1, 4, 5]);
    pool.add([5, 6, 7]);

    expect(pool.follow(1, 3)).toEqual([4, 5, 6]);
    expect(pool.follow(7, 3)).toEqual([]);
  });

  it('forgets the stalest', () => {
    const pool = new NgramPool(2);
    pool.add([1, 9]);
    pool.add([2, 8]);
    pool.follow(1, 1);
    pool.add([3, 7]);

    expect(pool.follow(2, 1)).toEqual([]);
    expect(pool.follow(1, 1)).toEqual([9]);
  });
});
