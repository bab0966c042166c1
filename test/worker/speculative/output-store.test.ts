import { describe, expect, it } from 'vitest';
import { type TenantId, toTenantId } from '../../../shared/ids.ts';
import { OutputCursor } from '../../../worker/speculative/output-cursor.ts';
import { OutputStore } from '../../../worker/speculative/output-store.ts';
import type { LookupLimits } from '../../../worker/speculative/proposer.ts';
import { integerFrom, seededRng } from '../../support/random.ts';

const ann = toTenantId('ann');
const bob = toTenantId('bob');
const limits = { minMatch: 2, maxDraft: 4 };

/** What the store says of a text that it has not seen before. */
function propose(
  store: OutputStore,
  tenant: TenantId,
  tokenIds: readonly number[],
  wanted: LookupLimits = limits,
) {
  return new OutputCursor(store, tenant).propose(tokenIds, tokenIds.length, wanted);
}

/**
 * The longest suffix of up to 4 tokens that some output contains, and what follows it, by counting.
 */
function plainly(outputs: readonly number[][], recent: readonly number[], maxDraft: number) {
  const countOf = (tokens: readonly number[]) =>
    outputs.reduce((sum, output) => {
      const ends = output.filter((_, start) => tokens.every((t, i) => output[start + i] === t));
      return sum + ends.length;
    }, 0);
  let matchLength = Math.min(4, recent.length);
  while (matchLength > 0 && countOf(recent.slice(-matchLength)) === 0) matchLength -= 1;
  if (matchLength < 1) return null;

  const counts: number[] = [];
  let place = recent.slice(-matchLength);
  const tokenIds: number[] = [];
  while (tokenIds.length < maxDraft) {
    const next = [0, 1, 2].map((tokenId) => countOf([...place, tokenId]));
    const best = Math.max(...next);
    if (best === 0) break;
    counts.push(best);
    tokenIds.push(next.indexOf(best));
    place = [...place, next.indexOf(best)].slice(-4);
  }
  return { matchLength, tokenIds, counts };
}

describe('OutputStore', () => {
  it('proposes what followed most often', () => {
    const store = new OutputStore();
    store.add(ann, [1, 2, 3, 4]);
    store.add(ann, [1, 2, 5, 6]);
    store.add(ann, [9, 1, 2, 5, 7]);

    expect(propose(store, ann, [8, 1, 2])).toEqual({
      proposer: 'suffix',
      tokenIds: [5, 7],
      matchLength: 2,
    });
    expect(propose(store, ann, [9, 1, 2], { ...limits, maxDraft: 1 })?.matchLength).toBe(3);
  });

  it('prefers the longer match to the more frequent one', () => {
    const store = new OutputStore();
    store.add(ann, [1, 2, 5]);
    store.add(ann, [1, 2, 5]);
    store.add(ann, [7, 1, 2, 6]);
    expect(propose(store, ann, [7, 1, 2])?.tokenIds).toEqual([6]);
  });

  it('never matches or continues across the end of an output', () => {
    const store = new OutputStore();
    store.add(ann, [1, 2]);
    store.add(ann, [3, 4]);
    expect(propose(store, ann, [1, 2])).toBeNull();
    expect(propose(store, ann, [2, 3])).toBeNull();
  });

  it("knows nothing of another tenant's outputs", () => {
    const store = new OutputStore();
    store.add(ann, [1, 2, 3]);
    expect(propose(store, bob, [1, 2])).toBeNull();
    store.add(bob, [1, 2, 9]);
    expect(propose(store, bob, [1, 2])?.tokenIds).toEqual([9]);
  });

  it('drafts nothing that hardly any output took', () => {
    const store = new OutputStore();
    for (let i = 0; i < 20; i += 1) store.add(ann, [1, 2, 100 + i]);
    expect(propose(store, ann, [1, 2])).toBeNull();
  });

  it('agrees with counting over random outputs', () => {
    const rng = seededRng(3);
    for (let trial = 0; trial < 200; trial += 1) {
      const store = new OutputStore({ maxMatch: 4 });
      const outputs = Array.from({ length: integerFrom(rng, 1, 6) }, () =>
        Array.from({ length: integerFrom(rng, 1, 15) }, () => integerFrom(rng, 0, 3)),
      );
      for (const output of outputs) store.add(ann, output);
      const recent = Array.from({ length: 6 }, () => integerFrom(rng, 0, 3));

      const proposal = propose(store, ann, recent, { minMatch: 1, maxDraft: 1 });
      const expected = plainly(outputs, recent, 1);
      if (proposal === null) {
        expect(expected?.tokenIds ?? []).toEqual([]);
        continue;
      }
      expect(proposal.matchLength).toBe(expected?.matchLength);
      const taken = recent.slice(-proposal.matchLength).concat(proposal.tokenIds);
      const counts = outputs.map((output) => {
        const starts = output.filter((_, start) => taken.every((t, i) => output[start + i] === t));
        return starts.length;
      });
      expect(counts.reduce((a, b) => a + b)).toBe(expected?.counts[0]);
    }
  });

  it('keeps to its bytes, a tenant to its share, and the latest outputs longest', () => {
    const rng = seededRng(4);
    const store = new OutputStore({ maxBytes: 400_000, maxTenantBytes: 100_000 });
    for (let i = 0; i < 300; i += 1) {
      const tenant = toTenantId(`tenant-${integerFrom(rng, 0, 10)}`);
      const output = Array.from({ length: 50 }, () => integerFrom(rng, 0, 30));
      store.add(tenant, output);
      expect(store.numBytes).toBeLessThanOrEqual(400_000);
      expect(propose(store, tenant, output.slice(10, 20))?.tokenIds[0]).toBe(output[20]);
    }

    const alone = new OutputStore({ maxBytes: 400_000, maxTenantBytes: 100_000 });
    for (let i = 0; i < 100; i += 1) {
      alone.add(ann, [i, i + 1, ...Array.from({ length: 50 }, () => integerFrom(rng, 500, 900))]);
    }
    expect(alone.numBytes).toBeLessThanOrEqual(100_000);
    expect(propose(alone, ann, [3, 4])).toBeNull();
  });

  it('says the same of a text that it follows as of one that it has not seen', () => {
    const rng = seededRng(5);
    const store = new OutputStore({ maxMatch: 4, maxBytes: 60_000, maxTenantBytes: 20_000 });
    const cursor = new OutputCursor(store, ann);
    const text: number[] = [];
    let numFound = 0;
    for (let step = 0; step < 2_000; step += 1) {
      const output = Array.from({ length: 15 }, () => integerFrom(rng, 0, 4));
      if (rng() < 0.1) store.add(rng() < 0.8 ? ann : toTenantId(`${step}`), output);
      const numNew = integerFrom(rng, 0, 7);
      for (let i = 0; i < numNew; i += 1) text.push(integerFrom(rng, 0, 4));

      const proposal = cursor.propose(text, text.length, limits);
      expect(proposal).toEqual(propose(store, ann, text));
      if (proposal !== null) numFound += 1;
    }
    expect(numFound).toBeGreaterThan(1_000);
  });
});
