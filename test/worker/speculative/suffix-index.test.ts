import { describe, expect, it } from 'vitest';
import { SuffixIndex } from '../../../worker/speculative/suffix-index.ts';
import { continueFrom, findSuffix } from '../../support/ngram.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

/** What the plain scan proposes, in the words of the index. */
function plainly(
  tokenIds: readonly number[],
  limits: { minMatch: number; maxMatch: number; maxDraft: number; maxEnd?: number },
) {
  const { minMatch, maxMatch, maxDraft, maxEnd = tokenIds.length - 1 } = limits;
  const found = findSuffix(tokenIds, { minN: minMatch, maxN: maxMatch, maxEnd });
  if (found === null) return null;
  return {
    proposer: 'ngram',
    tokenIds: continueFrom(tokenIds, found.end, maxDraft),
    matchLength: found.length,
  };
}

/** Text that repeats itself as real text does: random, periodic, or copied from before. */
function randomText(rng: Rng, length: number): number[] {
  const alphabet = pickFrom(rng, [1, 2, 3, 10]);
  const text: number[] = [];
  while (text.length < length) {
    const kind = rng();
    const count = integerFrom(rng, 1, 12);
    if (kind < 0.4 || text.length === 0) {
      for (let i = 0; i < count; i += 1) text.push(integerFrom(rng, 0, alphabet));
    } else if (kind < 0.7) {
      const period = integerFrom(rng, 1, Math.min(5, text.length) + 1);
      for (let i = 0; i < 3 * count; i += 1) text.push(text[text.length - period]!);
    } else {
      const start = integerFrom(rng, 0, text.length);
      text.push(...text.slice(start, start + count));
    }
  }
  return text.slice(0, length);
}

describe('SuffixIndex', () => {
  it('proposes what followed the latest earlier occurrence, then itself', () => {
    const index = new SuffixIndex([1, 2, 3, 4, 2, 3]);

    expect(index.propose({ minMatch: 2, maxDraft: 4 })).toEqual({
      proposer: 'ngram',
      tokenIds: [4, 2, 3, 4],
      matchLength: 2,
    });
    expect(index.propose({ minMatch: 3, maxDraft: 4 })).toBeNull();
  });

  it('proposes nothing where nothing repeats', () => {
    expect(new SuffixIndex([]).propose({ minMatch: 1, maxDraft: 4 })).toBeNull();
    expect(new SuffixIndex([1, 2, 3]).propose({ minMatch: 1, maxDraft: 4 })).toBeNull();
  });

  it.each([1, 4, 32])(
    'agrees with the plain scan at every token, matching up to %d',
    (maxMatch) => {
      const rng = seededRng(maxMatch);
      for (let trial = 0; trial < 60; trial += 1) {
        const text = randomText(rng, 120);
        const index = new SuffixIndex([], { maxMatch });
        const minMatch = integerFrom(rng, 1, 4);
        for (const [i, tokenId] of text.entries()) {
          index.add(tokenId);
          const expected = plainly(text.slice(0, i + 1), { minMatch, maxMatch, maxDraft: 5 });
          expect(index.propose({ minMatch, maxDraft: 5 })).toEqual(expected);
        }
      }
    },
  );

  it.each([2, 32])(
    'looks up after drafted tokens as if they were there, matching up to %d',
    (maxMatch) => {
      const rng = seededRng(9);
      for (let trial = 0; trial < 300; trial += 1) {
        const text = randomText(rng, integerFrom(rng, 1, 60));
        const index = new SuffixIndex(text, { maxMatch });
        const before = index.propose({ minMatch: 1, maxDraft: 5 });
        const cursor = index.cursor();
        const drafted: number[] = [];
        for (let i = 0; i < 8; i += 1) {
          const known = index.propose({ minMatch: 1, maxDraft: 1 })?.tokenIds[0] ?? 0;
          const next = rng() < 0.5 ? known : pickFrom(rng, text);
          cursor.advance(next);
          drafted.push(next);
          const expected = plainly([...text, ...drafted], {
            minMatch: 1,
            maxMatch,
            maxDraft: 5,
            maxEnd: text.length,
          });
          expect(cursor.propose({ minMatch: 1, maxDraft: 5 })).toEqual(expected);
        }
        expect(index.propose({ minMatch: 1, maxDraft: 5 })).toEqual(before);
      }
    },
  );

  it('asks the sequence itself before anything is drafted', () => {
    const index = new SuffixIndex([1, 2, 1]);
    const limits = { minMatch: 1, maxDraft: 3 };
    expect(index.cursor().propose(limits)).toEqual(index.propose(limits));
  });

  it('forgets what is long past and still knows the latest half', () => {
    const index = new SuffixIndex([], { maxTokens: 64 });
    const lasting = Array.from({ length: 20 }, (_, i) => 100 + i);
    for (const tokenId of [1, 2, 3]) index.add(tokenId);
    for (let i = 0; i < 1000; i += 1) index.add(1000 + i);
    for (const tokenId of [...lasting, 1, 2]) index.add(tokenId);
    expect(index.propose({ minMatch: 1, maxDraft: 2 })).toBeNull();

    for (const tokenId of lasting.slice(0, 2)) index.add(tokenId);
    expect(index.propose({ minMatch: 2, maxDraft: 2 })?.tokenIds).toEqual([102, 103]);
  });

  it('takes many equal tokens without a rescan', () => {
    const index = new SuffixIndex([], { maxTokens: 1 << 18 });
    for (let i = 0; i < 200_000; i += 1) index.add(7);
    expect(index.propose({ minMatch: 32, maxDraft: 3 })?.tokenIds).toEqual([7, 7, 7]);
  });
});
