import { describe, expect, it } from 'vitest';
import { DraftTally } from '../../../worker/speculative/tally.ts';

describe('DraftTally', () => {
  it('counts drafts, drafted tokens, and accepted ones by their place', () => {
    const tally = new DraftTally();
    tally.add({ proposer: 'draft', numDrafted: 3, numAccepted: 2 });
    tally.add({ proposer: 'draft', numDrafted: 1, numAccepted: 0 });
    tally.add({ proposer: 'ngram', numDrafted: 2, numAccepted: 2 });

    expect(tally.stats).toEqual([
      { proposer: 'draft', numDrafts: 2, numDraftTokens: 4, numAcceptedPerPosition: [1, 1, 0] },
      { proposer: 'ngram', numDrafts: 1, numDraftTokens: 2, numAcceptedPerPosition: [1, 1] },
    ]);
    expect([tally.numDrafted, tally.numAccepted]).toEqual([6, 4]);
  });

  it('adds up as if one had counted all', () => {
    const [a, b, both] = [new DraftTally(), new DraftTally(), new DraftTally()];
    const first = { proposer: 'staged', numDrafted: 4, numAccepted: 1 } as const;
    const second = { proposer: 'staged', numDrafted: 2, numAccepted: 2 } as const;
    a.add(first);
    b.add(second);
    for (const draft of [first, second]) both.add(draft);
    a.merge(b);

    expect(a.stats).toEqual(both.stats);
  });
});
