import { type Mutant, SPECULATION_TESTS } from './mutant.ts';

export const CACHES: readonly Mutant[] = [
  {
    name: 'the cache keeps the keys of rejected tokens',
    patches: [
      {
        file: 'worker/engine/engine.ts',
        search: 'this.#cache.append(sequence.row, output.numKept, newTokens);',
        replace: 'this.#cache.append(sequence.row, output.chunk.numTokens, newTokens);',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'a draft goes on across the end of its block',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'BLOCK_SIZE - (sequence.numComputedTokens % BLOCK_SIZE) - 1,',
        replace: 'BLOCK_SIZE,',
      },
      {
        file: 'worker/engine/sequence.ts',
        search: 'return BLOCK_SIZE - (this.numComputedTokens % BLOCK_SIZE);',
        replace:
          'return this.isDecoding ? BLOCK_SIZE : BLOCK_SIZE - (this.numComputedTokens % BLOCK_SIZE);',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'all drafted tokens but the first stand at one position',
    patches: [
      {
        file: 'worker/engine/batch.ts',
        search: 'positions[start + i] = numCached + i;',
        replace: 'positions[start + i] = numCached + Math.min(i, 1);',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the mask is one short: a token does not see itself',
    patches: [
      {
        file: 'worker/cache/mask.ts',
        search: 'tail + position - numFrozen + 1',
        replace: 'tail + position - numFrozen',
      },
    ],
    tests: ['test/worker/cache/mask.test.ts'],
  },
  {
    name: 'the mask is one long: a token sees the one behind it',
    patches: [
      {
        file: 'worker/cache/mask.ts',
        search: 'tail + position - numFrozen + 1',
        replace: 'tail + position - numFrozen + 2',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the tail is truncated by one token at most',
    patches: [
      {
        file: 'worker/cache/kv-cache.ts',
        search: '    );\n    owned.numTokens = numTokens;',
        replace: '    );\n    owned.numTokens = Math.max(numTokens, owned.numTokens - 1);',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'a worker that takes over forgets what was said before',
    patches: [
      {
        file: 'worker/engine/sequence.ts',
        search: 'for (const tokenId of publishedTokenIds) this.history.add(tokenId);',
        replace: '',
      },
    ],
    tests: SPECULATION_TESTS,
  },
];
