import { type Mutant, patchesOf, SPECULATION_TESTS } from './mutant.ts';

const LIMITS_TESTS = ['test/worker/engine/speculation-limits.test.ts'];

const drafter = patchesOf('worker/engine/drafter.ts');

export const DRAFTERS: readonly Mutant[] = [
  {
    name: 'the draft model’s cache is one behind after a full acceptance',
    patches: [
      drafter(
        'const unread = sequence.tokenIds.slice(row.numTokens);',
        `const isNext = row.numTokens > sequence.numPromptTokens;
        const unread = sequence.tokenIds.slice(isNext ? sequence.tokenIds.length - 1 : row.numTokens);`,
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the draft model’s cache keeps the keys of rejected tokens',
    patches: [drafter('numKnown + numRight)', 'numKnown + drafted.length)')],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the draft model’s tail is truncated one token too late',
    patches: [drafter('numKnown + numRight)', 'numKnown + numRight + 1)')],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the history is not restored after drafting',
    patches: [
      drafter(
        'for (const tokenId of this.#tokenIds) this.#request.sequence.history.remove(tokenId);',
        '',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'drafts are drawn without the history of what was drafted',
    patches: [
      drafter('sequence.history.add(tokenId);', ''),
      drafter(
        'for (const tokenId of this.#tokenIds) this.#request.sequence.history.remove(tokenId);',
        '',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'drafts are drawn with the noise of one position',
    patches: [
      drafter(
        'const position = sequence.numTokens + this.#tokenIds.length;',
        'const position = sequence.numTokens;',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the draft model’s row is never given back',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'this.#parts.drafter?.remove(sequence);\n    const { tenant }',
        replace: 'const { tenant }',
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the draft model drafts beyond its own context',
    patches: [drafter('Math.max(0, maxSequenceTokens - sequence.tokenIds.length)', 'Infinity')],
    tests: LIMITS_TESTS,
  },
  {
    name: 'the draft model reads tokens that it lacks',
    patches: [drafter('if (!this.#knowsAll(sequence)) return 0;', '')],
    tests: LIMITS_TESTS,
  },
  {
    name: 'tokens are drafted that the target lacks',
    patches: [
      {
        file: 'worker/engine/engine.ts',
        search: 'for (const sequence of drafted) sequence.cutDraft(this.#runner.shape.vocabSize);',
        replace: '',
      },
    ],
    tests: LIMITS_TESTS,
  },
  {
    name: 'lookahead reads beyond the last position',
    patches: [
      {
        file: 'worker/engine/draftee.ts',
        search:
          'if (side.offsets.some((offset) => numComputedTokens + offset >= numPositions)) return null;',
        replace: '',
      },
    ],
    tests: LIMITS_TESTS,
  },
];
