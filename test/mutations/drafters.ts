import { type Mutant, patchesOf, SPECULATION_TESTS } from './mutant.ts';

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
        'const position = sequence.tokenIds.length + this.#tokenIds.length;',
        'const position = sequence.tokenIds.length;',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the draft model’s row is never given back',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'this.#parts.drafter?.remove(sequence);',
        replace: '',
      },
    ],
    tests: SPECULATION_TESTS,
  },
];
