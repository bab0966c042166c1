import { describe, expect, it } from 'vitest';
import type { SamplingParams } from '../../../shared/protocol/job.ts';
import { TokenChooser } from '../../../worker/sampling/choose.ts';
import { TokenHistory } from '../../../worker/sampling/history.ts';
import { sample } from '../../../worker/sampling/sample.ts';
import { PLAIN_PARAMS, plainDistribution } from '../../support/plain-sampling.ts';
import { randomLogits, seededRng } from '../../support/random.ts';

const logits = Float32Array.of(1.5, 0.25, -0.75, 1.5, 2, -1.25, 0.5, -3, 1, 0);
const promptTokenIds = [0, 4, 4];
const outputTokenIds = [4, 2, 2, 8];

function historyOf(): TokenHistory {
  const history = new TokenHistory(promptTokenIds);
  for (const tokenId of outputTokenIds) history.add(tokenId);
  return history;
}

const historyOfNothing = { promptTokenIds: [], outputTokenIds: [] };

const penalties = { presencePenalty: 0.5, frequencyPenalty: 0.25, repetitionPenalty: 1.25 };
const logitBias: SamplingParams['logitBias'] = [
  [4, -2],
  [7, 3.5],
];

/** Every combination of the options, one of them plain. */
const GRID: SamplingParams[] = [0.3, 1, 1.7].flatMap((temperature) =>
  [1, 0.85, 0.4].flatMap((topP) =>
    [0, 6, 2].flatMap((topK) =>
      [0, 0.15].flatMap((minP) =>
        [{}, penalties].flatMap((penalized) =>
          [[], logitBias].map((bias) => ({
            ...PLAIN_PARAMS,
            ...penalized,
            temperature,
            topP,
            topK,
            minP,
            logitBias: bias,
          })),
        ),
      ),
    ),
  ),
);

function nameOf({ temperature, topP, topK, minP, repetitionPenalty, logitBias }: SamplingParams) {
  const isPenalized = repetitionPenalty !== 1;
  return JSON.stringify({ temperature, topP, topK, minP, isPenalized, bias: logitBias.length });
}

/** Asserts that frequencies are within 4 sigma; tokens too rare for that are counted together. */
function expectFrequencies(counts: readonly number[], probabilities: readonly number[]): void {
  const numTrials = counts.reduce((sum, count) => sum + count);
  const rare = { count: 0, probability: 0 };
  const bins = [rare];
  for (const [tokenId, probability] of probabilities.entries()) {
    if (probability === 0) expect(counts[tokenId]).toBe(0);
    if (probability * numTrials > 10) bins.push({ count: counts[tokenId]!, probability });
    else {
      rare.count += counts[tokenId]!;
      rare.probability += probability;
    }
  }
  for (const { count, probability } of bins) {
    const sigma = Math.sqrt((probability * (1 - probability)) / numTrials);
    const isRare = probability * numTrials <= 10;
    const tolerance = isRare ? 20 / numTrials : 4 * sigma; // 20 of 10 expected is as unlikely
    expect(Math.abs(count / numTrials - probability)).toBeLessThanOrEqual(tolerance + 1e-12);
  }
}

describe('TokenChooser', () => {
  it('chooses as often as is exactly right, over a grid of options', () => {
    expect(GRID).toHaveLength(216);
    const chooser = new TokenChooser(logits.length);
    const history = historyOf();
    const numTrials = 1_500;

    for (const [seed, params] of GRID.entries()) {
      const counts = Array<number>(logits.length).fill(0);
      for (let position = 0; position < numTrials; position += 1) {
        counts[chooser.choose(logits, params, history, { seed, position })]! += 1;
      }
      const exact = plainDistribution([...logits], params, { promptTokenIds, outputTokenIds });
      try {
        expectFrequencies(counts, exact);
      } catch (cause) {
        throw new Error(`${nameOf(params)}: ${counts}, not ${exact}`, { cause });
      }
    }
  });

  it.each([
    { presencePenalty: 1 },
    { frequencyPenalty: 1 },
    { repetitionPenalty: 2 },
    { logitBias },
    { topK: 3 },
    { topP: 0.5 },
    { minP: 0.3 },
  ])('honors %o by itself', (option) => {
    const chooser = new TokenChooser(logits.length);
    const params: SamplingParams = { ...PLAIN_PARAMS, ...option };
    const counts = Array<number>(logits.length).fill(0);
    for (let position = 0; position < 10_000; position += 1) {
      counts[chooser.choose(logits, params, historyOf(), { seed: 77, position })]! += 1;
    }
    const exact = plainDistribution([...logits], params, { promptTokenIds, outputTokenIds });
    expectFrequencies(counts, exact);
    expect(exact).not.toEqual(plainDistribution([...logits], PLAIN_PARAMS, historyOfNothing));
  });

  it.each(GRID.filter(({ temperature, topP, minP }) => temperature === 1 && topP === 1 && !minP))(
    'takes at temperature 0 what penalties and bias leave greatest: $repetitionPenalty $logitBias',
    (params) => {
      const greedy = { ...params, temperature: 0 };
      const exact = plainDistribution([...logits], greedy, { promptTokenIds, outputTokenIds });
      const chosen = new TokenChooser(logits.length).choose(logits, greedy, historyOf(), {
        seed: 1,
        position: 1,
      });
      expect(exact[chosen]).toBe(1);
    },
  );

  it('is the plain draw when nothing is filtered', () => {
    const chooser = new TokenChooser(50);
    for (let position = 0; position < 200; position += 1) {
      const some = randomLogits(seededRng(position), 50);
      const draw = { seed: 4, position };
      const params = { ...PLAIN_PARAMS, temperature: 0.8 };
      expect(chooser.choose(some, params, historyOf(), draw)).toBe(sample(some, 0.8, draw));
      // A penalty that changes nothing takes the other way through.
      const bias: SamplingParams = { ...params, logitBias: [[3, 0]] };
      expect(chooser.choose(some, bias, historyOf(), draw)).toBe(sample(some, 0.8, draw));
    }
  });

  it('remembers nothing of one choice in the next, and leaves the logits as they are', () => {
    const chooser = new TokenChooser(logits.length);
    const before = Float32Array.from(logits);
    const history = historyOf();
    const choose = (params: SamplingParams) =>
      chooser.choose(logits, params, history, { seed: 9, position: 3 });
    const alone = GRID.map((params) =>
      new TokenChooser(logits.length).choose(logits, params, historyOf(), { seed: 9, position: 3 }),
    );

    expect(GRID.map(choose)).toEqual(alone);
    expect(GRID.toReversed().map(choose)).toEqual(alone.toReversed());
    expect(logits).toEqual(before);
    expect(history).toEqual(historyOf());
  });
});
