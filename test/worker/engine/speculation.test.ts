import { describe, expect, it } from 'vitest';
import type { ModelInput, ModelOutput, ModelRunner } from '../../../worker/model/runner.ts';
import type { ProposerName } from '../../../worker/speculative/proposer.ts';
import { describeDrafts } from '../../support/draft-conformance.ts';
import { Drafting, finish, predicted } from '../../support/drafting.ts';
import { createTinyPair } from '../../support/model-pair.ts';
import { cellsOf } from '../../support/speculation-cases.ts';
import { describeSpeculation } from '../../support/speculation-conformance.ts';
import { SpeculationGrid } from '../../support/speculation-grid.ts';
import { NAN_TOKEN } from '../../support/tiny-tokens.ts';

const PROPOSERS: readonly ProposerName[] = [
  'prediction',
  'ngram',
  'suffix',
  'lookahead',
  'draft',
  'staged',
];

describeSpeculation('the tiny model', PROPOSERS, async () => createTinyPair());
describeDrafts('the tiny model', async () => createTinyPair());

it.each(PROPOSERS)('gives the tokens of plain decoding with %s', async (proposer) => {
  const grid = new SpeculationGrid(createTinyPair());

  for (const cell of cellsOf([proposer], [1, 2, 4, 8])) {
    expect(await grid.differing(cell, grid.nextCases(proposer, cell.maxSequences))).toEqual([]);
  }
  const { numDrafted, numAccepted } = grid.totalsOf(proposer);
  expect(numAccepted).toBeGreaterThan(0);
  expect(numDrafted - numAccepted).toBeGreaterThan(10);
});

describe('NaN', () => {
  /** Says what `runner` says, but for some tokens. */
  function disturbed(
    runner: ModelRunner,
    disturb: (output: ModelOutput, logitsStart: number) => void,
    isDisturbed = ({ positions }: ModelInput, index: number) => positions[index]! % 3 === 0,
  ): ModelRunner {
    return {
      ...runner,
      async run(input) {
        const output = await runner.run(input);
        for (const [i, index] of input.logitIndices.entries()) {
          if (isDisturbed(input, index)) disturb(output, i * runner.shape.vocabSize);
        }
        return output;
      },
    };
  }

  const disturbances: Record<string, Parameters<typeof disturbed>[1]> = {
    'that the target makes of a draft': ({ logits }, start) => {
      logits[start + NAN_TOKEN] = 1e3;
    },
    'of the draft model': ({ logits }) => logits.fill(NaN),
    'in keys of the draft model': ({ newKeys }) => newKeys[0]!.fill(NaN),
  };

  it.each(Object.entries(disturbances))('%s changes nothing', async (_, disturb) => {
    const pair = createTinyPair();
    const drafting = new Drafting({ ...pair, draft: disturbed(pair.target.runner, disturb) });
    const jobs = [0, 0.7, 1.3, 0, 0.7, 1.3].map((temperature, seed) =>
      drafting.job(10, { seed, temperature, maxTokens: 30 }),
    );
    const driver = drafting.open({ numDraftTokens: 4 });

    expect(await finish(driver, jobs)).toEqual(await drafting.plain(jobs));
  });

  it.each(PROPOSERS)('that comes of guesses is read again without them: %s', async (proposer) => {
    const pair = createTinyPair();
    const { runner, context } = pair.target;
    const allergic = disturbed(
      runner,
      ({ logits }, start) => logits.fill(NaN, start),
      (input) => input.numNewTokens > 1 && input.positions[0]! > 20,
    );
    const drafting = new Drafting({ ...pair, target: { runner: allergic, context } });
    const jobs = [0, 0.7, 1.3].map((temperature, seed) =>
      drafting.job(10, { seed, temperature, maxTokens: 30 }),
    );
    const expected = await finish(new Drafting(pair).openPlain(), jobs);
    const driver = drafting.open({ proposer, maxSequences: 1 });

    expect(await finish(driver, predicted(jobs, expected))).toEqual(expected);
  });
});
