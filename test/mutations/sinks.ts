import { type Mutant, patchesOf } from './mutant.ts';

const ROWS = ['test/worker/cache/sliding-rows.test.ts'];
const ENGINE = ['test/worker/engine/engine-sinks.test.ts'];

const inColumns = patchesOf('worker/cache/columns.ts');
const inContext = patchesOf('worker/engine/context.ts');
const inSharing = patchesOf('worker/engine/prefix-sharing.ts');

export const SINKS: readonly Mutant[] = [
  {
    name: 'a take-over counts the least number of tokens from where the log was trimmed',
    patches: [
      {
        file: 'worker/engine/generation.ts',
        search: 'minTokens - numTrimmed',
        replace: 'minTokens',
      },
    ],
    tests: ['test/worker/engine/engine-sinks.test.ts'],
  },
  {
    name: 'sinks fall behind as the text goes on',
    patches: [
      inColumns('return Math.min(position, numSinks + windowSize - 1);', 'return position;'),
    ],
    tests: ROWS,
  },
  {
    name: 'a ring is a block short',
    patches: [
      inColumns(
        'Math.ceil((numSinks + windowSize - 1) / BLOCK_SIZE));',
        'Math.ceil((numSinks + windowSize - 1) / BLOCK_SIZE) - 1);',
      ),
    ],
    tests: ROWS,
  },
  {
    name: 'a row that moves leaves its sinks behind',
    patches: [
      {
        file: 'worker/cache/row.ts',
        search: 'if (this.sinkWindow) bank.copySinks(index, this.bank, this.index);',
        replace: '',
      },
    ],
    tests: ROWS,
  },
  {
    name: 'blocks that were computed before bring no sinks',
    patches: [
      {
        file: 'worker/cache/kv-cache.ts',
        search: 'if (firstBlock === 0 && sinkWindow && first) bank.writeSinks(index, first);',
        replace: 'if (firstBlock === 0 && first) owned.numTokens += 0;',
      },
    ],
    tests: ENGINE,
  },
  {
    name: 'a chunk holds sinks and those that look at them',
    patches: [
      inColumns(
        'return numTokens < numSinks ? Math.min(room, numSinks - numTokens) : room;',
        'return numSinks < 0 ? numTokens : room;',
      ),
    ],
    tests: ENGINE,
  },
  {
    name: 'a draft goes on across the end of its context',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: '      sequence.context.room - 1,\n',
        replace: '',
      },
    ],
    tests: ENGINE,
  },
  {
    name: 'a worker that takes over begins a context where it finds itself',
    patches: [
      inContext(
        'return (Math.floor((numTokens - contextTokens(this.#policy)) / perRenewal) + 1) * perRenewal;',
        'return numTokens - contextTokens(this.#policy) + perRenewal;',
      ),
    ],
    tests: ENGINE,
  },
  {
    name: 'penalties count what has left the window',
    patches: [
      inContext(
        'if (this.tokenIds.length <= this.numDenseTokens) return;',
        'if (this.tokenIds.length > 0) return;',
      ),
    ],
    tests: ENGINE,
  },
  {
    name: 'blocks that depend on what slid away are shared',
    patches: [inSharing('end <= context.numDenseTokens && context.numForgotten === 0', 'true')],
    tests: ENGINE,
  },
  {
    name: 'blocks that were read without a window are copied behind it',
    patches: [
      inSharing('Math.min(tokenIds.length - 1, context.numDenseTokens)', 'tokenIds.length - 1'),
    ],
    tests: ENGINE,
  },
];
