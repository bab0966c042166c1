import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../../shared/assert.ts';
import { BLOCK_SIZE } from '../../../shared/block-size.ts';
import { type TenantId, toTenantId } from '../../../shared/ids.ts';
import type { FrozenBlock } from '../../../worker/cache/bank.ts';
import { type Prefix, PrefixCache } from '../../../worker/cache/prefix-cache.ts';
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

/** Adds every block of the tokens that is not known. */
function remember(cache: PrefixCache, tenant: TenantId, letters: string): void {
  const tokenIds = tokensOf(letters);
  let place: Prefix | null = cache.rootOf(tenant);
  for (let end = 1; end <= letters.length && place !== null && cache.canAdd(place); end += 1) {
    const block = blockOf(`${tenant} ${letters.slice(0, end)}`);
    place = cache.find(place, tokenIds) ?? cache.add(place, tokenIds, block);
  }
}

/** Prefixes whose blocks the cache gives. */
function matchOf(cache: PrefixCache, tenant: TenantId, letters: string, maxBlocks = 99): string[] {
  const { blocks } = cache.match(cache.rootOf(tenant), tokensOf(letters), maxBlocks * BLOCK_SIZE);
  return blocks.map((block) => letterByBlock.get(block)!.split(' ')[1]!);
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
  });

  it('gives the beginning of a block that goes on otherwise, or is not wanted whole', () => {
    const cache = cacheOf(10);
    remember(cache, alice, 'ab');
    remember(cache, alice, 'ac');
    const partOf = (tokenIds: readonly number[], maxTokens = 999) => {
      const { blocks, part } = cache.match(cache.rootOf(alice), tokenIds, maxTokens);
      const name = part && letterByBlock.get(part.block)?.split(' ')[1];
      return `${blocks.length} and ${part?.numTokens ?? 0} of ${name}`;
    };
    const [ab, ac] = [tokensOf('ab'), tokensOf('ac')];

    expect(partOf(ab)).toBe('2 and 0 of null');
    expect(partOf(ab.slice(0, -1))).toBe('1 and 63 of ab');
    expect(partOf(ab, 127)).toBe('1 and 63 of ab');
    expect(partOf([...ac.slice(0, 100), 1, 2])).toBe('1 and 36 of ac');
    expect(partOf([...ac.slice(0, 71), 1, 2])).toBe('1 and 0 of null'); // not worth it
    expect(partOf([...ab.slice(0, 20), 1, 2])).toBe('0 and 20 of a');
    expect(partOf([1, 2])).toBe('0 and 0 of null');
  });

  it('goes on from a place as from the beginning', () => {
    const cache = cacheOf(10);
    remember(cache, alice, 'abc');
    const tokenIds = tokensOf('abcd');
    const first = cache.match(cache.rootOf(alice), tokenIds, BLOCK_SIZE);
    const rest = cache.match(first.prefix, tokenIds, 999);

    expect([first.prefix.numTokens, rest.prefix.numTokens]).toEqual([64, 192]);
    const names = [...first.blocks, ...rest.blocks].map((block) => letterByBlock.get(block));
    expect(names).toEqual(['alice a', 'alice ab', 'alice abc']);
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

  it('keeps nothing behind what is gone, and nothing at all where there is no room', () => {
    const cache = cacheOf(2);
    remember(cache, alice, 'a');
    const place = cache.find(cache.rootOf(alice), tokensOf('a'))!;
    expect(cache.find(place, tokensOf('ab'))).toBeNull();
    remember(cache, bob, 'xy');
    expect(cache.canAdd(place)).toBe(false);
    expect(() => cache.add(place, tokensOf('ab'), blockOf('ab'))).toThrow(InvariantError);
    expect(cacheOf(0).canAdd(cache.rootOf(alice))).toBe(false);
  });

  it('lets nothing go for the end of a chain that fills it alone', () => {
    const cache = cacheOf(2);
    remember(cache, alice, 'abc');
    expect(matchOf(cache, alice, 'abc')).toEqual(['a', 'ab']);
    expect(cache.numEvicted).toBe(0);
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
    const part = () => [new Float32Array(floats)];
    for (let chain = 0; chain < 4; chain += 1) {
      const tokenIds = Array.from({ length: 3 * BLOCK_SIZE }, (_, i) => (i === 0 ? chain : i));
      let place: Prefix | null = cache.rootOf(alice);
      for (let block = 0; block < 3 && place !== null; block += 1) {
        place = cache.add(place, tokenIds, { keys: part(), values: part() });
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
      const { blocks } = cache.match(cache.rootOf(tenant), tokensOf(letters), 999);

      expect(cache.numBlocks).toBeLessThanOrEqual(12);
      expect(blocks.map((block) => letterByBlock.get(block))).toEqual(
        blocks.map((_, i) => `${tenant} ${letters.slice(0, i + 1)}`),
      );
      numHits += blocks.length;
    }
    expect(numHits).toBeGreaterThan(1_000);
  });
});
