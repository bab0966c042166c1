import { describe, expect, it } from 'vitest';
import type { ModelOutput, ModelRunner } from '../../../worker/model/runner.ts';
import type { ProposerName } from '../../../worker/speculative/proposer.ts';
import { describeDrafts } from '../../support/draft-conformance.ts';
import { Drafting, finish } from '../../support/drafting.ts';
import { createTinyPair } from '../../support/model-pair.ts';
import { cellsOf } from '../../support/speculation-cases.ts';
import { describeSpeculation } from '../../support/speculation-conformance.ts';
import { SpeculationGrid } from '../../support/speculation-grid.ts';
import { NAN_TOKEN } from '../../support/tiny-model.ts';

const PROPOSERS: readonly ProposerName[] = ['draft', 'staged', 'ngram', 'suffix'];

describeSpeculation('the tiny model', PROPOSERS, async () => createTinyPair());
describeDrafts('the tiny model', async () => createTinyPair());

it.each(PROPOSERS)('gives the tokens of plain decoding with %s', async (proposer) => {
  const grid = new SpeculationGrid(createTinyPair());

  for (const cell of cellsOf([proposer], [0, 1, 3, 8])) {
    expect(await grid.differing(cell, grid.nextCases(cell.maxSequences))).toEqual([]);
  }
  const { numDrafted, numAccepted } = grid.totalsOf(proposer);
  expect(numAccepted).toBeGreaterThan(3);
  expect(numDrafted - numAccepted).toBeGreaterThan(10);
});

describe('NaN', () => {
  /** Says what `runner` says, but for every third position. */
  function disturbed(
    runner: ModelRunner,
    disturb: (output: ModelOutput, logitsStart: number) => void,
  ): ModelRunner {
    return {
      ...runner,
      async run(input) {
        const output = await runner.run(input);
        for (const [i, index] of input.logitIndices.entries()) {
          if (input.positions[index]! % 3 === 0) disturb(output, i * runner.shape.vocabSize);
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
});
