import { type Mutant, patchesOf, SPECULATION_TESTS } from './mutant.ts';

const SHARING_TESTS = [
  'test/worker/engine/prefix-sharing.test.ts',
  'test/worker/cache/prefix-cache.test.ts',
];

const prefixes = patchesOf('worker/cache/prefix-cache.ts');

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
        search: 'sequence.roomInChunk - 1,',
        replace: 'BLOCK_SIZE,',
      },
      {
        file: 'worker/engine/sequence.ts',
        search: 'return roomInChunk(this.numComputedTokens, this.context.sinkWindow);',
        replace:
          'return this.isDecoding ? 64 : roomInChunk(this.numComputedTokens, this.context.sinkWindow);',
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
        search: 'tail + end - numFrozen);',
        replace: 'tail + end - numFrozen - 1);',
      },
    ],
    tests: ['test/worker/cache/mask.test.ts'],
  },
  {
    name: 'the mask is one long: a token sees the one behind it',
    patches: [
      {
        file: 'worker/cache/mask.ts',
        search: 'tail + end - numFrozen);',
        replace: 'tail + end - numFrozen + 1);',
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
        file: 'worker/engine/context.ts',
        search:
          'for (const index of seen) if (!this.#isPrompt(index)) history.add(this.tokenIds[index]!);',
        replace: '',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'of a block that is known in part, a column less is copied than counted',
    patches: [
      {
        file: 'worker/cache/kv-cache.ts',
        search: 'bank.writeTail(index, part.block, part.numTokens);',
        replace: 'bank.writeTail(index, part.block, part.numTokens - 1);',
      },
    ],
    tests: SHARING_TESTS,
  },
  {
    name: 'of a block that is known in part, a column more is copied than is alike',
    patches: [
      prefixes(
        'part = { block: child.block, numTokens }',
        'part = { block: child.block, numTokens: numTokens + 1 }',
      ),
    ],
    tests: SHARING_TESTS,
  },
  {
    name: 'the block that another reads is waited for in vain',
    patches: [
      {
        file: 'worker/engine/prefix-sharing.ts',
        search: '        other.numComputedTokens < end &&\n',
        replace: '',
      },
      {
        file: 'worker/engine/prefix-sharing.ts',
        search: '    this.#prefixByRow.delete(row);\n',
        replace: '',
      },
    ],
    tests: SHARING_TESTS,
  },
  {
    name: 'a row that moves, or is parked, leaves its last block behind',
    patches: [
      {
        file: 'worker/cache/row.ts',
        search: 'bank.copyRow(index, this.bank, this.index, numSlots);',
        replace: 'bank.copyRow(index, this.bank, this.index, Math.max(0, numSlots - 1));',
      },
    ],
    tests: ['test/worker/cache/kv-cache.test.ts', 'test/worker/engine/engine-giving-way.test.ts'],
  },
  {
    name: 'a row whose memory went to others is taken for one that was kept',
    patches: [
      {
        file: 'worker/cache/kv-cache.ts',
        search: 'if (parked === null) return false;',
        replace: 'if (parked === null) return this.open(row.sinkWindow) !== row && true;',
      },
    ],
    tests: ['test/worker/engine/engine-giving-way.test.ts'],
  },
];
