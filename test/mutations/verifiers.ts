import { type Mutant, patchesOf, SPECULATION_TESTS } from './mutant.ts';

const verify = patchesOf('worker/speculative/verify.ts');
const selector = patchesOf('worker/engine/token-selector.ts');

const CHOOSE = 'const tokenId = this.#chooser.choose(row, sampling, this.#sequence.history, draw);';
const chooseAs = (expression: string) =>
  selector(CHOOSE, `${CHOOSE.replace('tokenId', 'chosen')}\n    const tokenId = ${expression};`);

export const VERIFIERS: readonly Mutant[] = [
  {
    name: 'one too many is accepted: the key of a rejected token stays',
    patches: [verify('!== tokenId) return i;', '!== tokenId) return i + 1;')],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'tokens are taken on behind the first rejection',
    patches: [verify('if (target.next(i) !== tokenId) return i;', 'target.next(i);')],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'a drafted token that is nearly as likely is let pass',
    patches: [
      chooseAs(
        `row[this.#sequence.draftTokenIds[i] ?? chosen]! > row[chosen]! - 1
          ? (this.#sequence.draftTokenIds[i] ?? chosen) : chosen`,
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the bonus token is the draft’s',
    patches: [
      chooseAs(
        `i > 0 && i === this.#rows.length - 1 ? this.#sequence.draftTokenIds[i - 1]! : chosen`,
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'penalties are stale: they count tokens up to the last step',
    patches: [
      {
        file: 'worker/engine/context.ts',
        search: 'this.tokenIds.push(tokenId);\n    this.history.add(tokenId);',
        replace: 'this.tokenIds.push(tokenId);',
      },
      {
        file: 'worker/engine/engine.ts',
        search: 'this.#attending?.settle(output);',
        replace: `for (const tokenId of output.newTokenIds) sequence.context.history.add(tokenId);
          this.#attending?.settle(output);`,
      },
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'noise of the wrong position: that of the step’s first token',
    patches: [
      selector(
        'const position = this.#sequence.numTokens;',
        'const position = this.#sequence.numTokens - i;',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'a token is chosen by the logits before those of its place',
    patches: [
      selector('const row = this.#rows[i]!;', 'const row = this.#rows[Math.max(0, i - 1)]!;'),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'log-probabilities are those of the step’s first token',
    patches: [
      selector('tokenLogprobs(tokenId, row, k,', 'tokenLogprobs(tokenId, this.#rows[0]!, k,'),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'a stop string inside a draft is ignored',
    patches: [
      selector(
        'const shown = text.push(tokenId);',
        `const pushed = text.push(tokenId);
        const shown = i + 1 < this.#rows.length ? { ...pushed, isStopped: false } : pushed;`,
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'the end token inside a draft is ignored',
    patches: [
      selector(
        'finishReasonAfter(this.#sequence, tokenId, shown.isStopped);',
        `i + 1 < this.#rows.length && !shown.isStopped
          ? null : finishReasonAfter(this.#sequence, tokenId, shown.isStopped);`,
      ),
    ],
    tests: SPECULATION_TESTS,
  },
  {
    name: 'NaN of a draft ends the request',
    patches: [
      selector(
        'if (isBroken && sequence.canSpeculate && numTokens >= numKnown)',
        'if (isBroken && numTokens < 0)',
      ),
    ],
    tests: SPECULATION_TESTS,
  },
];
