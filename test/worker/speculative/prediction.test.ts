import { describe, expect, it } from 'vitest';
import { Prediction } from '../../../worker/speculative/prediction.ts';
import { integerFrom, type Rng, seededRng } from '../../support/random.ts';

/** What is proposed after the prediction and then the output. */
function proposeAfter(predicted: readonly number[], output: readonly number[], maxDraft = 8) {
  const prediction = new Prediction(predicted);
  for (const tokenId of output) prediction.add(tokenId);
  return prediction.propose(maxDraft);
}

const range = (start: number, end: number) =>
  Array.from({ length: end - start }, (_, i) => start + i);

/** How many tokens of the output were foreseen by the one proposed before them. */
function countForeseen(predicted: readonly number[], output: readonly number[]): number {
  const prediction = new Prediction(predicted);
  let numForeseen = 0;
  for (const tokenId of output) {
    if (prediction.propose(1)?.tokenIds[0] === tokenId) numForeseen += 1;
    prediction.add(tokenId);
  }
  return numForeseen;
}

/** Words of a text by Zipf's law, so that many are alike. */
function zipfText(rng: Rng, length: number): number[] {
  return Array.from({ length }, () => Math.floor(500 ** rng()));
}

describe('Prediction', () => {
  it('proposes the prediction from its start', () => {
    expect(proposeAfter([1, 2, 3, 4, 5], [], 2)).toEqual({
      proposer: 'prediction',
      tokenIds: [1, 2],
      matchLength: 0,
    });
  });

  it.each([
    { edit: 'nothing', output: [1, 2], tokenIds: [3, 4, 5], matchLength: 2 },
    { edit: 'a token replaced', output: [1, 2, 9], tokenIds: [4, 5], matchLength: 0 },
    { edit: 'a token inserted', output: [1, 2, 9, 3], tokenIds: [4, 5], matchLength: 1 },
    { edit: 'a token deleted', output: [1, 2, 4], tokenIds: [5], matchLength: 1 },
  ])('goes on after $edit', ({ output, tokenIds, matchLength }) => {
    expect(proposeAfter([1, 2, 3, 4, 5], output)).toMatchObject({ tokenIds, matchLength });
  });

  it('proposes nothing after its end', () => {
    expect(proposeAfter([1, 2], [1, 2])).toBeNull();
    expect(proposeAfter([], [1, 2])).toBeNull();
    expect(proposeAfter([1, 2], [1], 0)).toBeNull();
  });

  it.each([
    { edit: '5 tokens replaced', after: [...range(900, 905), 26, 27], next: 28 },
    { edit: '60 tokens inserted', after: [...range(900, 960), 21, 22], next: 23 },
    { edit: '40 tokens deleted', after: [61, 62, 63], next: 64 },
    { edit: '150 tokens deleted', after: [171, 172, 173, 174], next: 175 },
    { edit: 'a jump far back', after: [1, 2, 3, 4], next: 5 },
  ])('finds its place again after $edit', ({ after, next }) => {
    expect(proposeAfter(range(0, 200), [...range(0, 21), ...after])?.tokenIds[0]).toBe(next);
  });

  it('is not led away by a common token', () => {
    const predicted = [...range(100, 120), 7, ...range(120, 140), 7, ...range(140, 160)];
    const output = [...range(100, 110), 900, 7];
    expect(proposeAfter(predicted, output)).toMatchObject({ matchLength: 0 });
    expect(proposeAfter(predicted, output)?.tokenIds[0]).toBe(112);
    expect(proposeAfter(predicted, [...output, 112])?.tokenIds[0]).toBe(113);
  });

  it('foresees nearly all of a text with an edit every 40 tokens', () => {
    const rng = seededRng(11);
    for (let trial = 0; trial < 10; trial += 1) {
      const predicted = zipfText(rng, 2_000);
      const output: number[] = [];
      for (let place = 0; place < predicted.length; ) {
        const length = integerFrom(rng, 20, 60);
        output.push(...predicted.slice(place, place + length));
        place += length;
        if (rng() < 0.7) place += integerFrom(rng, 1, 6);
        if (rng() < 0.7) output.push(...zipfText(rng, integerFrom(rng, 1, 6)));
      }
      // Of 43 tokens, 2.5 are new and up to 3 tell where it goes on.
      expect(countForeseen(predicted, output) / output.length).toBeGreaterThan(0.86);
    }
  });
});
