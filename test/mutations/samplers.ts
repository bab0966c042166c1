import { type Mutant, patchesOf } from './mutant.ts';

const filters = patchesOf('worker/sampling/filters.ts');
const SAMPLING = ['test/worker/sampling/choose.test.ts', 'test/worker/sampling/filters.test.ts'];
const DRAWS = ['test/worker/sampling/noise.test.ts', 'test/worker/sampling/sample.test.ts'];

export const SAMPLERS: readonly Mutant[] = [
  {
    name: 'top-p comes before the temperature',
    patches: [
      {
        file: 'worker/sampling/choose.ts',
        search: 'keepTopP(filtered, params.topP, params.temperature);',
        replace: 'keepTopP(filtered, params.topP, 1);',
      },
    ],
    tests: SAMPLING,
  },
  {
    name: 'top-p drops the token with which the mass is reached',
    patches: [
      filters(
        'if (mass >= wanted) logits[tokenId] = -Infinity;',
        'if (mass + weight > wanted) logits[tokenId] = -Infinity;',
      ),
    ],
    tests: SAMPLING,
  },
  {
    name: 'min-p comes before the temperature',
    patches: [filters('Math.log(minP) * temperature', 'Math.log(minP)')],
    tests: SAMPLING,
  },
  {
    name: 'the repetition penalty rewards tokens with negative logits',
    patches: [filters('logit > 0 ? logit / penalty : logit * penalty', 'logit / penalty')],
    tests: SAMPLING,
  },
  {
    name: 'the frequency penalty counts a token once',
    patches: [filters('frequencyPenalty * count', 'frequencyPenalty')],
    tests: SAMPLING,
  },
  {
    name: 'an answer may end with the last of the tokens that it has at least',
    patches: [
      {
        file: 'worker/engine/sequence.ts',
        search: 'this.numPromptTokens < minOutputTokens',
        replace: 'this.numPromptTokens + 1 < minOutputTokens',
      },
    ],
    tests: ['test/worker/engine/engine-ends.test.ts'],
  },
  {
    name: 'all tokens of a draw get the same noise',
    patches: [
      {
        file: 'worker/sampling/noise.ts',
        search: 'Math.imul(tokenId + second, 0x9e3779b1)',
        replace: 'Math.imul(second, 0x9e3779b1)',
      },
    ],
    tests: DRAWS,
  },
  {
    name: 'the bound on the noise is too low',
    patches: [
      {
        file: 'worker/sampling/noise.ts',
        search: '(Math.clz32(~bits) + 1) * Math.LN2',
        replace: 'Math.clz32(~bits) * Math.LN2',
      },
    ],
    tests: DRAWS,
  },
];
