import { describe, expect, it } from 'vitest';
import { OutputText } from '../../../worker/engine/output-text.ts';
import type { Sequence } from '../../../worker/engine/sequence.ts';
import { finishReasonAfter, TokenSelector } from '../../../worker/engine/token-selector.ts';
import { PLAIN_PARAMS, plainProbabilities, plainSample } from '../../support/plain-sampling.ts';
import { sequenceOf } from '../../support/sequences.ts';
import { describeTinyToken, tinyTokenBytes } from '../../support/tiny-tokens.ts';

const vocabSize = 10;

function selectorOf(): TokenSelector {
  return new TokenSelector(vocabSize, describeTinyToken);
}

/** Logits of as many positions, each with one token above the others. */
function logitsOf(...tokenIds: readonly number[]): Float32Array {
  return Float32Array.from(
    tokenIds.flatMap((best) => Array.from({ length: vocabSize }, (_, id) => (id === best ? 3 : 0))),
  );
}

/** A sequence whose first tokens are in the cache. */
function readSequence(numRead: number, options: Parameters<typeof sequenceOf>[1] = {}): Sequence {
  const sequence = sequenceOf(3, { promptTokenIds: [3, 4, 5], ...options });
  sequence.row = { frozenCapacity: 64, index: 0, numTokens: numRead, sinkWindow: null };
  return sequence;
}

describe('TokenSelector', () => {
  it('takes the token that the logits behind the last known token choose', () => {
    const sequence = readSequence(2);
    const output = selectorOf().select({ sequence, numTokens: 1 }, logitsOf(9, 7, 9), 1);

    expect(output).toMatchObject({ newTokenIds: [7], numKept: 1, isBroken: false });
    expect(sequence.tokenIds).toEqual([3, 4, 5, 7]);
    expect(output.text).toBe(describeTinyToken(7).text);
  });

  it('takes nothing while the prompt is being read', () => {
    const sequence = readSequence(0);
    const output = selectorOf().select({ sequence, numTokens: 2 }, logitsOf(7), 0);

    expect(output).toMatchObject({ newTokenIds: [], numKept: 2, text: '' });
    expect(sequence.tokenIds).toEqual([3, 4, 5]);
  });

  it('keeps of a draft what the target chose itself, and recovers behind it', () => {
    const sequence = readSequence(2);
    sequence.propose('ngram', [6, 7, 8]);
    const output = selectorOf().select({ sequence, numTokens: 4 }, logitsOf(6, 7, 9, 5), 0);

    expect(output).toMatchObject({ newTokenIds: [6, 7, 9], numKept: 3 });
    expect(output.verified).toEqual({ proposer: 'ngram', numDrafted: 3, numAccepted: 2 });
    expect(sequence.draftTokenIds).toEqual([]);
  });

  it('verifies only as much of a draft as was read', () => {
    const sequence = readSequence(2);
    sequence.propose('ngram', [6, 7, 8]);
    const output = selectorOf().select({ sequence, numTokens: 2 }, logitsOf(6, 7), 0);

    expect(output).toMatchObject({ newTokenIds: [6, 7], numKept: 2 });
    expect(output.verified).toMatchObject({ numDrafted: 1, numAccepted: 1 });
  });

  it('ends within a draft, and keeps nothing behind the end', () => {
    const sequence = readSequence(2, { maxOutputTokens: 2 });
    sequence.propose('ngram', [6, 7, 8]);
    const output = selectorOf().select({ sequence, numTokens: 4 }, logitsOf(6, 7, 8, 9), 0);

    expect(output).toMatchObject({ newTokenIds: [6, 7], numKept: 3, finishReason: 'length' });
    expect(sequence.tokenIds).toEqual([3, 4, 5, 6, 7]);
  });

  it('draws each token with its own position, and penalizes those before it', () => {
    const params = { ...PLAIN_PARAMS, temperature: 1, seed: 5, presencePenalty: 100 };
    const sequence = readSequence(2, { sampling: params });
    const flat = new Float32Array(vocabSize);
    const first = plainSample(flat, 1, { seed: 5, position: 3 });
    sequence.propose('ngram', [first, 1]);
    const output = selectorOf().select({ sequence, numTokens: 3 }, new Float32Array(30), 0);

    const penalized = flat.map((_, id) => (id === first ? -100 : 0));
    const second = plainSample(penalized, 1, { seed: 5, position: 4 });
    expect(output.newTokenIds.slice(0, 2)).toEqual([first, second]);
  });

  it('gives log-probabilities of the model’s own distribution, whatever chose the token', () => {
    const sampling = { ...PLAIN_PARAMS, temperature: 0, logitBias: [[4, 50] as [number, number]] };
    const sequence = readSequence(2, { sampling, topLogprobs: 2 });
    const output = selectorOf().select({ sequence, numTokens: 1 }, logitsOf(7), 0);

    const probabilities = plainProbabilities(logitsOf(7), 1);
    expect(output.newTokenIds).toEqual([4]);
    const [{ id, logprob, top }] = output.logprobs as [(typeof output.logprobs)[number]];
    expect({ id, ids: top.map((each) => each.id) }).toEqual({ id: 4, ids: [7, 0] });
    expect(logprob).toBeCloseTo(Math.log(probabilities[4]!), 6);
    expect(top[0]!.logprob).toBeCloseTo(Math.log(probabilities[7]!), 6);
  });

  it('gives log-probabilities of the prompt, each by the logits before it', () => {
    const sequence = readSequence(0, { wantsPromptLogprobs: true, topLogprobs: 1 });
    const selector = selectorOf();
    const first = selector.select({ sequence, numTokens: 2 }, logitsOf(4, 9), 0);
    sequence.row = { frozenCapacity: 64, index: 0, numTokens: 2, sinkWindow: null };
    const second = selector.select({ sequence, numTokens: 1 }, logitsOf(7), 0);

    expect(first.promptLogprobs.map(({ id, top }) => [id, top[0]!.id])).toEqual([
      [4, 4],
      [5, 9],
    ]);
    expect(second.promptLogprobs).toEqual([]);
    expect(second.newTokenIds).toEqual([7]);
  });

  it('reads the prompt and takes nothing when only the echo is wanted', () => {
    const options = { wantsPromptLogprobs: true, topLogprobs: 0, maxOutputTokens: 0 };
    const sequence = readSequence(0, options);
    const output = selectorOf().select({ sequence, numTokens: 3 }, logitsOf(4, 5, 6), 0);
    expect(output).toMatchObject({ newTokenIds: [], numKept: 3, finishReason: null });
    expect(output.promptLogprobs).toHaveLength(2);
  });

  it('notices NaN, and takes no token of it', () => {
    const sequence = readSequence(2);
    const output = selectorOf().select({ sequence, numTokens: 1 }, logitsOf(6).fill(NaN), 0);

    expect(output).toMatchObject({ isBroken: true, newTokenIds: [] });
    expect(sequence.tokenIds).toEqual([3, 4, 5]);
  });

  it('keeps nothing of a draft with NaN, and wants the sequence read without', () => {
    const sequence = readSequence(2, { canSpeculate: true });
    sequence.propose('ngram', [6]);
    const logits = logitsOf(6, 7);
    logits.fill(NaN, vocabSize);
    const output = selectorOf().select({ sequence, numTokens: 2 }, logits, 0);

    expect(output).toMatchObject({ isBroken: false, numKept: 0, newTokenIds: [] });
    expect(sequence).toMatchObject({ tokenIds: [3, 4, 5], draftTokenIds: [], canSpeculate: false });
  });

  it('shows what was held back when the sequence ends', () => {
    const text = new OutputText(tinyTokenBytes, ['abcd']);
    const sequence = readSequence(2, { text, maxOutputTokens: 2 });
    sequence.propose('ngram', [3]);
    const output = selectorOf().select({ sequence, numTokens: 2 }, logitsOf(3, 4), 0);
    expect(output).toMatchObject({ text: 'ab', finishReason: 'length' });
  });

  it('shows no part of a stop string', () => {
    const text = new OutputText(tinyTokenBytes, ['ab']);
    const sequence = readSequence(2, { text });
    sequence.propose('ngram', [5, 3, 4]);
    const output = selectorOf().select({ sequence, numTokens: 4 }, logitsOf(5, 3, 4, 4), 0);
    expect(output).toMatchObject({ newTokenIds: [5, 3, 4], text: 'c', finishReason: 'stop' });
  });
});

describe('finishReasonAfter', () => {
  it('is the end token or stop string before the length', () => {
    const options = { endTokenIds: new Set([1]), maxOutputTokens: 1, publishedTokenIds: [1] };
    expect(finishReasonAfter(readSequence(0, options), 1, false)).toBe('stop');
    expect(finishReasonAfter(readSequence(0, options), 4, true)).toBe('stop');
    expect(finishReasonAfter(readSequence(0, options), 4, false)).toBe('length');
    expect(finishReasonAfter(readSequence(0), 1, false)).toBeNull();
  });
});
