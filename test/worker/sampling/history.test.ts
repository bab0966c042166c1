import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { TokenHistory } from '../../../worker/sampling/history.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';

describe('TokenHistory', () => {
  it('tells prompt tokens from output tokens', () => {
    const history = new TokenHistory([5, 5, 7]);
    history.add(7);
    history.add(7);

    expect(history.promptCounts).toEqual(
      new Map([
        [5, 2],
        [7, 1],
      ]),
    );
    expect(history.outputCounts).toEqual(new Map([[7, 2]]));
  });

  it('refuses to remove what was never added, also from the prompt', () => {
    const history = new TokenHistory([5]);
    expect(() => history.remove(5)).toThrow(InvariantError);
  });

  it('counts what was added and not removed over 2,000 random operations', () => {
    const rng = seededRng(2);
    const history = new TokenHistory([]);
    const held: number[] = [];
    for (let step = 0; step < 2_000; step += 1) {
      if (rng() < 0.6 || held.length === 0) {
        held.push(integerFrom(rng, 0, 6));
        history.add(held.at(-1)!);
      } else {
        const tokenId = pickFrom(rng, held);
        held.splice(held.indexOf(tokenId), 1);
        history.remove(tokenId);
      }
      const counts = [0, 1, 2, 3, 4, 5].map((id) => held.filter((each) => each === id).length);
      expect(counts.map((_, id) => history.outputCounts.get(id) ?? 0)).toEqual(counts);
      expect([...history.outputCounts.values()]).not.toContain(0);
    }
  });
});
