import { describe, expect, it } from 'vitest';
import type { TokenId } from '../../../shared/ids.ts';
import { contextTokens, isEnoughToResume } from '../../../shared/protocol/endless.ts';
import {
  type GenerationEvent,
  NOTHING_PUBLISHED,
  type PublishedChoice,
} from '../../../shared/protocol/generation.ts';
import type { Job } from '../../../shared/protocol/job.ts';
import {
  type ChoiceSoFar,
  EngineDriver,
  foldChoices,
  generate,
  publishedOf,
} from '../../support/engine-driver.ts';
import { createTinyPair } from '../../support/model-pair.ts';
import { integerFrom, seededRng } from '../../support/random.ts';
import { describeSinks, sinks, slidingJob } from '../../support/sinks-conformance.ts';
import { TinyModel } from '../../support/tiny-model.ts';

describeSinks('the tiny model', async () => createTinyPair());

const words = (count: number, seed = 1): TokenId[] => {
  const rng = seededRng(seed);
  return Array.from({ length: count }, () => integerFrom(rng, 3, 16));
};

async function alone(job: Job): Promise<ChoiceSoFar> {
  return foldChoices(await generate(job), 1)[0]!;
}

describe('Engine.start of an endless request of two choices', () => {
  it('goes on with one when the other is over and gone from the log', async () => {
    const job = slidingJob({ n: 2, contextPolicy: sinks(4, 30), prompts: [words(9)] });
    const over = { tokenIds: [], numTrimmed: 20, textLength: 40, hasEcho: false };
    const published = [{ ...over, finishReason: 'stop' } as const, NOTHING_PUBLISHED];
    const events = await generate({ ...job, maxTokens: 60 }, {}, published);

    expect(foldChoices(events, 2)[1]?.tokenIds).toHaveLength(60);
    expect(events.at(-1)).toMatchObject({ type: 'end', usage: { completionTokens: 20 + 60 } });
  });
});

/** What a worker reads of a log that begins as late as it may. */
function latestOf(events: readonly GenerationEvent[], job: Job): PublishedChoice {
  const [whole] = publishedOf(events, 1);
  let start = events.length;
  let latest = publishedOf([], 1)[0]!;
  while (start > 0 && !isEnoughToResume(job, { ...latest, numTokens: latest.tokenIds.length })) {
    start -= 1;
    latest = publishedOf(events.slice(start), 1)[0]!;
  }
  const numTrimmed = whole!.tokenIds.length - latest.tokenIds.length;
  return { ...whole!, tokenIds: latest.tokenIds, numTrimmed };
}

describe('Engine.start of a text that holds back more than its context', () => {
  it('goes on byte for byte in the middle of a stop string', async () => {
    const plain = slidingJob({ contextPolicy: sinks(4, 2), prompts: [words(9)], maxTokens: 120 });
    const { text } = await alone(plain);
    const nearly = [80, 120].map((start) => `${text.slice(start, start + 39)}!`);
    const job = { ...plain, stop: nearly };
    const events = await generate(job);
    const whole = foldChoices(events, 1)[0]!;
    expect(whole.text).toBe(text);

    let numShort = 0;
    for (let end = 60; end < events.length - 1; end += 1) {
      const published = latestOf(events.slice(0, end), job);
      if (published.numTrimmed) numShort += 1;
      const rest = foldChoices(await generate(job, {}, [published]), 1)[0]!;
      expect(rest.text).toBe(text.slice(published.textLength));
    }
    expect(numShort).toBeGreaterThan(20);
  });
});

describe('Engine under sinks', () => {
  it('equals stop while the window covers everything', async () => {
    const sampling = { ...slidingJob().sampling, frequencyPenalty: 0.3, repetitionPenalty: 1.2 };
    for (const prompt of [words(5), words(150, 2)]) {
      const job = { prompts: [prompt], maxTokens: 400 - prompt.length, sampling };
      const expected = await alone(slidingJob({ ...job, contextPolicy: { type: 'stop' } }));

      expect(expected.tokenIds).toHaveLength(400 - prompt.length);
      expect(await alone(slidingJob({ ...job, contextPolicy: sinks(4, 396) }))).toEqual(expected);
    }
  });

  it('goes on where stop must end', async () => {
    const job = { maxTokens: 3000, prompts: [words(9)] };
    const outcome = await alone(slidingJob({ ...job, contextPolicy: sinks(4, 60) }));
    expect(outcome.tokenIds).toHaveLength(3000);

    const stopped = await alone(slidingJob({ ...job, contextPolicy: { type: 'stop' } }));
    expect(stopped.tokenIds).toHaveLength(new TinyModel().shape.maxSequenceTokens - 9);
  });

  it('depends on what is in the window and on the sinks, and on nothing between', async () => {
    const policy = sinks(4, 30);
    const [head, between, window] = [words(4), words(5 * contextTokens(policy), 2), words(270, 3)];
    const outcomeAfter = (...parts: TokenId[][]) =>
      alone(slidingJob({ prompts: [parts.flat()], contextPolicy: policy, maxTokens: 20 }));
    const expected = await outcomeAfter(head, between, window);

    const others = between.map((tokenId) => (tokenId === 5 ? 6 : 5));
    expect(await outcomeAfter(head, others, window)).toEqual(expected);
    const changedHead = head.map((tokenId, i) => (i === 2 ? (tokenId === 5 ? 6 : 5) : tokenId));
    expect((await outcomeAfter(changedHead, between, window)).tokenIds).not.toEqual(
      expected.tokenIds,
    );
  });

  it('keeps no more of a sequence than a context, and ends when it is cancelled', async () => {
    const job = slidingJob({ maxTokens: null, prompts: [words(9)] });
    const driver = new EngineDriver();
    driver.start(job);
    let numTokens = 0;
    while (numTokens < 4 * contextTokens(sinks(4, 20))) {
      await driver.step();
      numTokens = foldChoices(driver.eventsOf(job), 1)[0]!.tokenIds.length;
    }
    const { calls } = driver.model;
    const positions = calls.flatMap((call) => [...call.positions]);
    expect(Math.max(...positions)).toBeLessThan(contextTokens(sinks(4, 20)));
    expect(Math.max(...calls.map((call) => call.frozenCapacity))).toBe(64);

    driver.engine.cancel(job.id, 'deadline');
    await driver.step();
    expect(foldChoices(driver.eventsOf(job), 1)[0]!.finishReason).toBe('deadline');
    expect(driver.engine.isIdle).toBe(true);
  });

  it('copies no more of a prompt that was read without a window than its first tokens see', async () => {
    const prompts = [words(400, 4)];
    const driver = new EngineDriver({ prefixCacheBytes: 1e7 });
    driver.start(slidingJob({ prompts, contextPolicy: { type: 'stop' }, maxTokens: 1 }));
    await driver.finish();
    const job = slidingJob({ prompts, contextPolicy: sinks(4, 90) });
    driver.start(job);
    await driver.finish();

    expect(foldChoices(driver.eventsOf(job), 1)[0]).toEqual(await alone(job));
    expect(driver.eventsOf(job).at(-1)).toMatchObject({ usage: { cachedTokens: 94 } });
  });

  it('ends at a stop string', async () => {
    const long = await alone(slidingJob({ maxTokens: 600, prompts: [words(9)] }));
    const stop = long.text.slice(-6);
    const job = slidingJob({ maxTokens: null, prompts: [words(9)], stop: [stop] });
    const stopped = await alone(job);

    expect(stopped.finishReason).toBe('stop');
    expect(stopped.text).toBe(long.text.slice(0, long.text.indexOf(stop)));
  });
});
