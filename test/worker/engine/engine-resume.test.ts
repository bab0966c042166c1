import { describe, expect, it } from 'vitest';
import type { GenerationEvent } from '../../../shared/protocol/generation.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import {
  type ChoiceSoFar,
  engineJob,
  foldChoices,
  generate,
  publishedOf,
} from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { describeTinyToken } from '../../support/tiny-tokens.ts';

const sampled = { ...PLAIN_PARAMS, temperature: 0.9, seed: 7 };
const longPrompt = Array.from({ length: 61 }, (_, i) => 3 + (i % 20));

/**
 * Requests whose state is in what they said: half a stop string, half a character, counts, an echo.
 */
const JOBS: Readonly<Record<string, Partial<Job>>> = {
  'plain text': { maxTokens: 20 },
  'across the end of a block': { prompts: [longPrompt], maxTokens: 12, sampling: sampled },
  'stop strings': { maxTokens: 60, sampling: sampled, stop: ['bcd', 'abca', 'd ab', 'aa'] },
  'stop strings that never come': {
    maxTokens: 24,
    stop: ['a b c d', 'bbbbb', 'cdcdcd', '\uFFFD!'],
  },
  penalties: {
    maxTokens: 40,
    sampling: {
      ...sampled,
      presencePenalty: 1,
      frequencyPenalty: 0.7,
      repetitionPenalty: 1.5,
      topK: 12,
      topP: 0.9,
    },
  },
  logprobs: { maxTokens: 10, topLogprobs: 4, sampling: sampled },
  echo: { maxTokens: 6, echo: true, n: 2, sampling: sampled },
  'echo with logprobs': {
    prompts: [longPrompt.slice(0, 7), longPrompt],
    maxTokens: 5,
    echo: true,
    topLogprobs: 2,
  },
  'echo of one token with logprobs': { prompts: [[5]], maxTokens: 4, echo: true, topLogprobs: 0 },
  'echo and nothing more': { prompts: [[5, 6], [7]], maxTokens: 0, echo: true },
  'echo with logprobs and nothing more': {
    prompts: [longPrompt, [7], [7, 8]],
    maxTokens: 0,
    echo: true,
    topLogprobs: 1,
  },
  'no tokens at all': { maxTokens: 0 },
  choices: { prompts: [[3], [9, 4]], n: 3, maxTokens: 14, sampling: sampled, stop: ['d ', 'ca'] },
  'an early end': { maxTokens: 90, sampling: { ...sampled, seed: 12, logitBias: [[1, 2]] } },
  'a least number of tokens': {
    maxTokens: 90,
    minTokens: 25,
    stop: ['ab', 'c'],
    sampling: { ...sampled, seed: 12, logitBias: [[1, 2]] },
  },
  'stop tokens': { maxTokens: 90, stopTokenIds: [5, 9], minTokens: 7, sampling: sampled, n: 3 },
  'no end': {
    maxTokens: 30,
    ignoreEos: true,
    sampling: { ...sampled, seed: 12, logitBias: [[1, 2]] },
  },
};

function totalOf(events: readonly GenerationEvent[], job: Job) {
  const last = events.at(-1);
  if (last?.type !== 'end') throw new Error(`the last event is ${last?.type}`);
  return { choices: foldChoices(events, job.prompts.length * job.n), usage: last.usage };
}

/** Every way that a log may have been cut: each event is in it or not. */
function prefixesOf(events: readonly GenerationEvent[]): GenerationEvent[][] {
  return events.map((_, end) => events.slice(0, end));
}

describe('Engine.start of what was begun elsewhere', () => {
  it.each(Object.entries(JOBS))(
    'goes on from any prefix as if undisturbed: %s',
    async (_, fields) => {
      const job = engineJob(fields);
      const count = job.prompts.length * job.n;
      const events = await generate(job);
      const expected = totalOf(events, job);

      for (const prefix of prefixesOf(events)) {
        const rest = await generate(job, {}, publishedOf(prefix, count));
        expect(totalOf([...prefix, ...rest], job)).toEqual(expected);
      }
    },
  );

  it.each(Object.entries(JOBS))('goes on when interrupted at every step: %s', async (_, fields) => {
    const job = engineJob(fields);
    const expected = totalOf(await generate(job), job);

    const events: GenerationEvent[] = [];
    for (let claim = 0; events.at(-1)?.type !== 'end'; claim += 1) {
      if (claim > 300) throw new Error('no claim comes any further');
      const published = publishedOf(events, job.prompts.length * job.n);
      const rest = await generate(job, { maxBatchedTokens: 64 - (claim % 5) }, published);
      // The next worker dies after the first event that is new.
      events.push(...rest.slice(0, 1));
    }
    expect(totalOf(events, job)).toEqual(expected);
  });

  it.each([
    { fields: { maxTokens: 12, stop: ['a b c d'] }, finishReason: 'length' },
    { fields: JOBS['stop strings']!, finishReason: 'stop' },
    { fields: JOBS['an early end']!, finishReason: 'stop' },
  ])('says the last words of a choice that was published without: $finishReason', async (each) => {
    const job = engineJob(each.fields);
    const expected = totalOf(await generate(job), job);
    const [{ tokenIds, text }] = expected.choices as [ChoiceSoFar];
    expect(tokenIds.length).toBeGreaterThan(1);
    for (let textLength = 0; textLength <= text.length; textLength += 1) {
      const published = { tokenIds, textLength, hasEcho: false, finishReason: null };
      const rest = await generate(job, {}, [published]);
      const { finishReason } = each;
      expect(rest).toMatchObject([
        { type: 'tokens', tokenIds: [], text: text.slice(textLength), finishReason },
        { type: 'end', usage: expected.usage },
      ]);
    }
  });

  it('shows the text of all tokens, and no stop string', async () => {
    const decoder = new TextDecoder();
    for (const fields of Object.values(JOBS).filter(({ minTokens }) => minTokens === undefined)) {
      const job = engineJob(fields);
      const { choices } = totalOf(await generate(job), job);
      for (const { tokenIds, text } of choices) {
        const bytes = tokenIds.flatMap((tokenId) => describeTinyToken(tokenId).bytes);
        const whole = decoder.decode(Uint8Array.from(bytes));
        const ends = job.stop.map((stop) => whole.indexOf(stop)).filter((start) => start !== -1);
        expect(text).toBe(whole.slice(0, Math.min(whole.length, ...ends)));
      }
    }
  });
});
