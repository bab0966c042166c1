import { describe, expect, it } from 'vitest';
import { LookupShadow } from '../../../worker/speculative/lookup-shadow.ts';

const lookup = { proposer: 'ngram', matchLength: 3, tokenIds: [1, 2, 3] } as const;

describe('LookupShadow', () => {
  it('counts the tokens that came as looked up, over several steps', () => {
    const shadow = new LookupShadow();
    shadow.watch(lookup);

    expect(shadow.take([1])).toEqual([]);
    const drafted = { numPlanned: 3, numDrafted: 3, numCompared: 3, numAccepted: 2 };
    expect(shadow.take([2, 9])).toEqual([{ proposer: 'ngram', matchLength: 3, ...drafted }]);
    expect(shadow.take([3])).toEqual([]);
  });

  it('is done when all of them came', () => {
    const shadow = new LookupShadow();
    shadow.watch(lookup);
    expect(shadow.take([1, 2, 3, 4])).toMatchObject([{ numCompared: 3, numAccepted: 3 }]);
  });

  it('watches one lookup of each proposer at a time', () => {
    const shadow = new LookupShadow();
    shadow.watch(lookup);
    shadow.take([1]);
    shadow.watch({ ...lookup, tokenIds: [7] });
    shadow.watch({ ...lookup, proposer: 'suffix', tokenIds: [7] });

    expect(shadow.take([7])).toMatchObject([
      { proposer: 'ngram', numCompared: 2, numAccepted: 1 },
      { proposer: 'suffix', numAccepted: 1 },
    ]);
  });

  it('leaves a lookup to the verifier when that is asked', () => {
    const shadow = new LookupShadow();
    shadow.watch(lookup);
    shadow.drop('ngram');
    expect(shadow.take([9])).toEqual([]);
  });
});
