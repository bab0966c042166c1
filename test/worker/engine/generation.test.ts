import { describe, expect, it } from 'vitest';
import { NOTHING_PUBLISHED } from '../../../shared/protocol/generation.ts';
import { choiceSeed, type Job } from '../../../shared/protocol/job.ts';
import { Generation } from '../../../worker/engine/generation.ts';
import type { Sequence } from '../../../worker/engine/sequence.ts';
import type { StepOutput } from '../../../worker/engine/step.ts';
import { contextOf, engineJob } from '../../support/engine-driver.ts';
import { TinyModel } from '../../support/tiny-model.ts';
import { describeTinyToken } from '../../support/tiny-tokens.ts';

const context = contextOf(new TinyModel({ maxSequenceTokens: 100 }));

function generationOf(fields: Partial<Job> = {}, now: () => number = () => 0): Generation {
  const job = engineJob(fields);
  const published = Array(job.prompts.length * job.n).fill(NOTHING_PUBLISHED);
  return new Generation(job, published, { ...context, now });
}

/** What a step may give a sequence, which has then taken it. */
function outputOf(sequence: Sequence, fields: Partial<StepOutput> = {}): StepOutput {
  for (const tokenId of fields.newTokenIds ?? []) sequence.accept(tokenId);
  sequence.finishReason = fields.finishReason ?? null;
  return {
    chunk: { sequence, numTokens: 1 },
    newTokenIds: [],
    numKept: 1,
    text: '',
    logprobs: [],
    promptLogprobs: [],
    finishReason: null,
    verified: null,
    isBroken: false,
    ...fields,
  };
}

const endless: Partial<Job> = {
  maxTokens: 8193,
  contextPolicy: { type: 'sinks', sinkTokens: 4, windowTokens: 20 },
};

function logprobsOf(id: number) {
  return { id, ...describeTinyToken(id), logprob: -1, top: [] };
}

describe('Generation', () => {
  it('has a sequence for each choice, with its prompt and seed', () => {
    const { sequences } = generationOf({ prompts: [[3], [4, 5]], n: 2 });
    expect(sequences.map(({ options }) => options.promptTokenIds)).toEqual([
      [3],
      [3],
      [4, 5],
      [4, 5],
    ]);
    const seeds = [1, choiceSeed(1, 1)];
    expect(sequences.map(({ options }) => options.sampling.seed)).toEqual([...seeds, ...seeds]);
    expect(sequences.map(({ options }) => options.choice)).toEqual([0, 1, 2, 3]);
  });

  it.each<[Partial<Job>, object]>([
    [{}, { class: 'interactive', isUnbounded: false, isStream: true }],
    [{ class: 'batch' }, { class: 'batch', isUnbounded: false, isStream: false }],
    [endless, { class: 'batch', isUnbounded: true, isStream: true }],
    [
      { ...endless, class: 'batch' },
      { class: 'batch', isUnbounded: true, isStream: false },
    ],
    [
      { ...endless, maxTokens: 8192 },
      { class: 'interactive', isUnbounded: false, isStream: true },
    ],
  ])('gives way as the job wants it: %j', (fields, expected) => {
    expect(generationOf(fields).sequences[0]!.options).toMatchObject(expected);
  });

  it.each([
    [5, 5],
    [null, 97],
    [200, 97],
  ])('lets max_tokens of %s be %d tokens where the context ends at 100', (maxTokens, expected) => {
    const { sequences } = generationOf({ prompts: [[3, 4, 5]], maxTokens });
    expect(sequences[0]!.options.maxOutputTokens).toBe(expected);
  });

  it('says tokens, then the end with its usage, once all choices are done', () => {
    const generation = generationOf({ prompts: [[3, 4], [5]] });
    const [first, second] = generation.sequences as [Sequence, Sequence];
    generation.add(outputOf(first, { newTokenIds: [3, 4], text: 'ab', finishReason: 'stop' }));
    expect(generation.takeEvents()).toEqual([
      {
        type: 'tokens',
        choice: 0,
        tokenIds: [3, 4],
        text: 'ab',
        logprobs: null,
        finishReason: 'stop',
      },
    ]);
    expect(generation.hasEnded).toBe(false);

    generation.add(outputOf(second, { newTokenIds: [6], text: 'd', finishReason: 'length' }));
    expect(generation.takeEvents()).toMatchObject([
      { type: 'tokens', choice: 1, finishReason: 'length' },
      { type: 'end', usage: { promptTokens: 3, completionTokens: 3 } },
    ]);
    expect(generation.hasEnded).toBe(true);
    expect(generation.takeEvents()).toEqual([]);
  });

  it('says nothing of a chunk of the prompt', () => {
    const generation = generationOf();
    generation.add(outputOf(generation.sequences[0]!));
    expect(generation.takeEvents()).toEqual([]);
  });

  it('times the prompt until the first token, and the rest', () => {
    let nowMs = 100;
    const generation = generationOf({}, () => nowMs);
    const [sequence] = generation.sequences as [Sequence];
    nowMs = 130;
    generation.add(outputOf(sequence, { newTokenIds: [3] }));
    nowMs = 180;
    generation.add(outputOf(sequence, { newTokenIds: [3], finishReason: 'length' }));
    expect(generation.takeEvents().at(-1)).toMatchObject({
      timings: { prefillMs: 30, decodeMs: 50 },
    });
  });

  it('echoes every choice before anything else', () => {
    const generation = generationOf({ prompts: [[3, 4]], n: 2, echo: true, maxTokens: 0 });
    expect(generation.takeEvents()).toMatchObject([
      { type: 'echo', choice: 0, text: 'ab', logprobs: null },
      { type: 'tokens', choice: 0, tokenIds: [], finishReason: 'length' },
      { type: 'echo', choice: 1 },
      { type: 'tokens', choice: 1 },
      { type: 'end', usage: { promptTokens: 2, completionTokens: 0 } },
    ]);
  });

  it('echoes what the client wrote, without the space that a tokenizer puts before it', () => {
    const spaced = (prompt: number[], topLogprobs: number | null) => {
      const job = engineJob({ prompts: [prompt], echo: true, maxTokens: 0, topLogprobs });
      const generation = new Generation(job, [NOTHING_PUBLISHED], {
        ...context,
        numLeadingSpaces: 1,
      });
      const [sequence] = generation.sequences;
      const promptLogprobs = prompt.slice(1).map(logprobsOf);
      if (topLogprobs !== null) generation.add(outputOf(sequence!, { promptLogprobs }));
      return generation.takeEvents()[0];
    };

    expect(spaced([0, 7, 3, 7], null)).toMatchObject({ text: 'a ' }); // the first has no text
    expect(spaced([3, 7], null)).toMatchObject({ text: 'a ' });
    expect(spaced([0, 7, 3, 7], 0)).toMatchObject({
      text: 'a ',
      logprobs: [{ text: '' }, { text: '', bytes: [] }, { text: 'a' }, { text: ' ' }],
    });
  });

  it('echoes with log-probabilities once all of the prompt’s are known', () => {
    const generation = generationOf({ prompts: [[3, 4, 5]], echo: true, topLogprobs: 0 });
    const [sequence] = generation.sequences as [Sequence];
    generation.add(outputOf(sequence, { promptLogprobs: [logprobsOf(4)] }));
    expect(generation.takeEvents()).toEqual([]);
    const rest = { promptLogprobs: [logprobsOf(5)], newTokenIds: [6], logprobs: [logprobsOf(6)] };
    generation.add(outputOf(sequence, rest));
    generation.add(outputOf(sequence, { newTokenIds: [6], logprobs: [logprobsOf(6)] }));

    const first = { id: 3, logprob: null, top: [] };
    expect(generation.takeEvents()).toMatchObject([
      { type: 'echo', text: 'abc', logprobs: [first, { id: 4 }, { id: 5 }] },
      { type: 'tokens', tokenIds: [6], logprobs: [{ id: 6 }] },
      { type: 'tokens', tokenIds: [6] },
    ]);
  });

  it('echoes a prompt of one token, which nothing comes before', () => {
    const generation = generationOf({ prompts: [[3]], echo: true, topLogprobs: 1, maxTokens: 0 });
    generation.add(outputOf(generation.sequences[0]!));
    expect(generation.takeEvents()).toMatchObject([
      { type: 'echo', text: 'a', logprobs: [{ id: 3, logprob: null }] },
      { type: 'tokens', tokenIds: [], finishReason: 'length' },
      { type: 'end' },
    ]);
  });

  it('fails once, and says nothing behind the error', () => {
    const generation = generationOf({ n: 2 });
    generation.fail({ code: 'internal', message: 'NaN', param: null });
    generation.fail({ code: 'internal', message: 'NaN', param: null });
    generation.cancel('cancelled');
    expect(generation.takeEvents()).toMatchObject([{ type: 'error', code: 'internal' }]);
    expect(generation.hasEnded).toBe(true);
  });

  it('cancels what is not finished', () => {
    const generation = generationOf({ n: 2 });
    generation.add(outputOf(generation.sequences[1]!, { newTokenIds: [3], finishReason: 'stop' }));
    generation.cancel('deadline');
    generation.cancel('cancelled');
    expect(generation.takeEvents().slice(1)).toMatchObject([
      { type: 'tokens', choice: 0, tokenIds: [], finishReason: 'deadline' },
      { type: 'end' },
    ]);
  });

  it('adds up what was drafted for its choices', () => {
    const generation = generationOf({ n: 2 });
    for (const sequence of generation.sequences) {
      const verified = { proposer: 'ngram', numDrafted: 3, numAccepted: 2 } as const;
      generation.add(outputOf(sequence, { newTokenIds: [3], finishReason: 'stop', verified }));
    }
    expect(generation.takeEvents().at(-1)).toMatchObject({
      usage: { acceptedPredictionTokens: 4, rejectedPredictionTokens: 2 },
      speculation: [{ proposer: 'ngram', numDrafts: 2, numDraftTokens: 6 }],
    });
  });
});
