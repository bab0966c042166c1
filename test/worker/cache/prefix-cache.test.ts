import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { type TenantId, toTenantId } from '../../../shared/ids.ts';
import type { FrozenBlock } from '../../../worker/cache/bank.ts';
import { BLOCK_SIZE } from '../../../worker/cache/layout.ts';
import { PrefixCache } from '../../../worker/cache/prefix-cache.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';

const [alice, bob] = [toTenantId('alice'), toTenantId('bob')];

/** Tokens of whole blocks, one letter each. */
function tokensOf(letters: string): number[] {
  return [...letters].flatMap((letter) => Array<number>(BLOCK_SIZE).fill(letter.charCodeAt(0)));
}

const letterByBlock = new Map<FrozenBlock, string>();

function blockOf(letters: string): FrozenBlock {
  const block = { keys: [], values: [] };
  letterByBlock.set(block, letters);
  return block;
}

/** Adds every block of the tokens that the cache wants. */
function remember(cache: PrefixCache, tenant: TenantId, letters: string): void {
  for (let end = 1; end <= letters.length; end += 1) {
    const tokenIds = tokensOf(letters.slice(0, end));
    if (!cache.wants(tenant, tokenIds)) continue;
    cache.add(tenant, tokenIds, blockOf(`${tenant} ${letters.slice(0, end)}`));
  }
}

/** Prefixes whose blocks the cache gives. */
function matchOf(cache: PrefixCache, tenant: TenantId, letters: string, maxBlocks = 99): string[] {
  return cache
    .match(tenant, tokensOf(letters), maxBlocks)
    .map((block) => letterByBlock.get(block)!.split(' ')[1]!);
}

function cacheOf(maxBlocks: number): PrefixCache {
  return new PrefixCache({ maxBytes: maxBlocks * 10 + 9, blockBytes: 10 });
}

describe('PrefixCache', () => {
  it('gives the blocks that tokens begin with', () => {
    const cache = cacheOf(10);
    remember(cache, alice, 'abc');

    expect(matchOf(cache, alice, 'abc')).toEqual(['a', 'ab', 'abc']);
    expect(matchOf(cache, alice, 'abx')).toEqual(['a', 'ab']);
    expect(matchOf(cache, alice, 'bc')).toEqual([]);
    expect(matchOf(cache, alice, 'abc', 2)).toEqual(['a', 'ab']);
    expect(cache.match(alice, tokensOf('ab').slice(0, -1), 9)).toHaveLength(1);
  });

  it('tells the same tokens behind others apart', () => {
    const cache = cacheOf(10);
    remember(cache, alice, 'ax');
    remember(cache, alice, 'bx');
    expect(matchOf(cache, alice, 'ax')).toEqual(['a', 'ax']);
    expect(matchOf(cache, alice, 'bx')).toEqual(['b', 'bx']);
  });

  it('gives one tenant nothing of another', () => {
    const cache = cacheOf(10);
    remember(cache, alice, 'ab');
    expect(matchOf(cache, bob, 'ab')).toEqual([]);
    expect(matchOf(cache, toTenantId('0'), 'b')).toEqual([]); // no tenant is a block's number
  });

  it('wants what it does not have, behind what it has', () => {
    const cache = cacheOf(10);
    expect(cache.wants(alice, tokensOf('ab'))).toBe(false);
    remember(cache, alice, 'a');
    expect(cache.wants(alice, tokensOf('ab'))).toBe(true);
    expect(cache.wants(alice, tokensOf('a'))).toBe(false);
    expect(() => cache.add(alice, tokensOf('a'), blockOf('a'))).toThrow(InvariantError);
    expect(cacheOf(0).wants(alice, tokensOf('a'))).toBe(false);
  });

  it('lets the block go that was used longest ago, the end of a chain before its begin', () => {
    const cache = cacheOf(3);
    remember(cache, alice, 'ab');
    remember(cache, alice, 'c');
    matchOf(cache, alice, 'ab');
    remember(cache, alice, 'd'); // c goes
    expect(matchOf(cache, alice, 'c')).toEqual([]);
    remember(cache, alice, 'e'); // ab goes before a
    expect(matchOf(cache, alice, 'ab')).toEqual(['a']);
  });

  it('tells what it holds, nearly all of it blocks that can still be found', () => {
    const floats = 64 * 64;
    const cache = new PrefixCache({ maxBytes: 5 * floats * 8, blockBytes: floats * 8 });
    const tokens = Array.from({ length: 40 * 64 }, (_, i) => i);
    for (let chain = 0; chain < 4; chain += 1) {
      for (let end = 64; end <= 3 * 64; end += 64) {
        const prefix = [chain, ...tokens.slice(1, end)];
        const part = () => [new Float32Array(floats)];
        if (cache.wants(alice, prefix)) cache.add(alice, prefix, { keys: part(), values: part() });
      }
    }

    const { held, needed } = cache.usage;
    expect(needed).toBe(cache.numBlocks * floats * 8);
    expect(held).toBeGreaterThan(needed);
    expect(1 - needed / held).toBeLessThan(0.04);
  });

  it('never gives a wrong block or holds too many over 2,000 random operations', () => {
    const rng = seededRng(80);
    const cache = cacheOf(12);
    let numHits = 0;
    for (let step = 0; step < 2_000; step += 1) {
      const tenant = pickFrom(rng, [alice, bob]);
      const letters = Array.from({ length: integerFrom(rng, 1, 5) }, () =>
        pickFrom(rng, ['a', 'b', 'c']),
      ).join('');
      if (rng() < 0.5) remember(cache, tenant, letters);
      const blocks = cache.match(tenant, tokensOf(letters), 99);

      expect(cache.numBlocks).toBeLessThanOrEqual(12);
      expect(blocks.map((block) => letterByBlock.get(block))).toEqual(
        blocks.map((_, i) => `${tenant} ${letters.slice(0, i + 1)}`),
      );
      numHits += blocks.length;
    }
    expect(numHits).toBeGreaterThan(1_000);
  });
});
