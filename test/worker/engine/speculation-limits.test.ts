import { describe, expect, it } from 'vitest';
import type { ModelRunner } from '../../../worker/model/runner.ts';
import type { ProposerName } from '../../../worker/speculative/proposer.ts';
import { Drafting, finish } from '../../support/drafting.ts';
import { createTinyPair } from '../../support/model-pair.ts';
import { draftedTokens } from '../../support/speculation-cases.ts';
import { VOCAB_SIZE } from '../../support/tiny-tokens.ts';

interface Limits {
  readonly vocabSize?: number;
  readonly maxSequenceTokens?: number;
}

/**
 * The same model with fewer tokens or positions; like a table of embeddings, it has nothing beyond
 * them.
 */
function limited(runner: ModelRunner, limits: Limits): ModelRunner {
  const shape = { ...runner.shape, ...limits };
  const size = runner.shape.vocabSize;
  return {
    ...runner,
    shape,
    async run(input) {
      if (input.tokenIds.some((tokenId) => tokenId >= shape.vocabSize))
        throw new Error('no such token');
      if (input.positions.some((position) => position >= shape.maxSequenceTokens)) {
        throw new Error('no such position');
      }
      const output = await runner.run(input);
      const rows = Array.from(input.logitIndices, (_, i) =>
        output.logits.subarray(i * size, i * size + shape.vocabSize),
      );
      return { ...output, logits: Float32Array.from(rows.flatMap((row) => [...row])) };
    },
  };
}

/**
 * A draft model with tokens that the target lacks, and a liking for them at every third position.
 */
function enlarged(runner: ModelRunner): ModelRunner {
  const size = runner.shape.vocabSize;
  return {
    ...runner,
    shape: { ...runner.shape, vocabSize: size + 2 },
    async run(input) {
      const output = await runner.run(input);
      const rows = Array.from(input.logitIndices, (index, i) => [
        ...output.logits.subarray(i * size, (i + 1) * size),
        input.positions[index]! % 3 === 0 ? 1e3 : -1e3,
        -1e3,
      ]);
      return { ...output, logits: Float32Array.from(rows.flat()) };
    },
  };
}

const { target } = createTinyPair();

/** Drafts for texts of 90 tokens, behind a target that is strict about its own limits. */
async function expectSame(draft: ModelRunner, proposer: ProposerName): Promise<void> {
  const strict = limited(target.runner, { maxSequenceTokens: 90, vocabSize: VOCAB_SIZE });
  const pair = { ...createTinyPair(), target: { ...target, runner: strict }, draft };
  const drafting = new Drafting(pair);
  const jobs = [0, 0.7, 1.3, 0].map((temperature, seed) =>
    drafting.job(10 + seed, { seed, temperature, maxTokens: null }),
  );
  const driver = drafting.open({ proposer, numDraftTokens: 5, maxSequenceTokens: 90 });

  expect(await finish(driver, jobs)).toEqual(await finish(drafting.openPlain(90), jobs));
  const numAccepted = jobs.map((job) => draftedTokens(driver, job).accepted);
  expect(Math.min(...numAccepted)).toBeGreaterThan(1);
}

describe('speculation', () => {
  it.each(['draft', 'staged'] as const)(
    'ends where the context of the draft model does: %s',
    (proposer) => expectSame(limited(target.runner, { maxSequenceTokens: 40 }), proposer),
  );

  it.each(['draft', 'staged'] as const)(
    'goes without a draft model behind tokens that it lacks: %s',
    (proposer) => expectSame(limited(target.runner, { vocabSize: VOCAB_SIZE - 1 }), proposer),
  );

  it.each(['draft', 'staged'] as const)('drafts no token that the target lacks: %s', (proposer) =>
    expectSame(enlarged(target.runner), proposer),
  );

  it('looks ahead within the positions of the target', () =>
    expectSame(target.runner, 'lookahead'));
});
