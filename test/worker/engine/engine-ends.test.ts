import { describe, expect, it } from 'vitest';
import type { Job, SamplingParams } from '../../../shared/protocol/job.ts';
import { type ChoiceSoFar, engineJob, foldChoices, generate } from '../../support/engine-driver.ts';
import { PLAIN_PARAMS } from '../../support/plain-sampling.ts';
import { describeTinyToken, EOS } from '../../support/tiny-tokens.ts';

/** The end comes early. */
const sampling: SamplingParams = {
  ...PLAIN_PARAMS,
  temperature: 0.9,
  seed: 12,
  logitBias: [[EOS, 2]],
};

async function answerOf(fields: Partial<Job>): Promise<ChoiceSoFar> {
  const events = await generate(engineJob({ maxTokens: 90, sampling, ...fields }));
  return foldChoices(events, 1)[0]!;
}

function textOf(tokenIds: readonly number[]): string {
  return tokenIds.map((tokenId) => describeTinyToken(tokenId).text).join('');
}

describe('a least number of tokens', () => {
  it('is had before the end, by tokens drawn as if there were no end', async () => {
    const plain = await answerOf({});
    const minTokens = plain.tokenIds.length + 5;
    const banned: SamplingParams = { ...sampling, logitBias: [[EOS, -1e9]] };
    const endless = await answerOf({ sampling: banned, maxTokens: minTokens });

    const longer = await answerOf({ minTokens });

    expect(plain).toMatchObject({ finishReason: 'stop' });
    expect(endless.tokenIds).toHaveLength(minTokens);
    expect(longer.tokenIds.slice(0, minTokens)).toEqual(endless.tokenIds);
    expect(longer.tokenIds.slice(0, -1)).not.toContain(EOS);
    expect(longer).toMatchObject({ finishReason: 'stop' });
    expect(longer.tokenIds.at(-1)).toBe(EOS);
  });

  it.each([1, 2, 7])(
    'of %d is followed by the end at once where that is wanted',
    async (minTokens) => {
      const eager: SamplingParams = { ...sampling, logitBias: [[EOS, 1e6]] };
      const { tokenIds } = await answerOf({ sampling: eager, minTokens });
      expect(tokenIds.indexOf(EOS)).toBe(minTokens);
      expect(tokenIds).toHaveLength(minTokens + 1);
    },
  );

  it('changes nothing where there are more', async () => {
    const plain = await answerOf({});
    expect(await answerOf({ minTokens: plain.tokenIds.length - 1 })).toEqual(plain);
  });

  it('holds for stop tokens and stop strings as well', async () => {
    const plain = await answerOf({ ignoreEos: true });
    const stopTokenIds = plain.tokenIds.slice(2, 3);
    const stop = [textOf(plain.tokenIds.slice(2, 4))];
    const minTokens = 20;

    for (const fields of [{ stopTokenIds }, { stop }]) {
      const early = await answerOf({ ...fields, ignoreEos: true });
      const late = await answerOf({ ...fields, ignoreEos: true, minTokens });
      expect(early.tokenIds.length).toBeLessThan(6);
      expect(late.tokenIds.length).toBeGreaterThan(minTokens);
    }
  });
});

describe('a stop token', () => {
  it('ends an answer, whose text ends before it', async () => {
    const plain = await answerOf({ ignoreEos: true });
    const stopId = plain.tokenIds[8]!;
    const end = plain.tokenIds.indexOf(stopId);

    const stopped = await answerOf({ ignoreEos: true, stopTokenIds: [stopId] });

    expect(stopped.tokenIds).toEqual(plain.tokenIds.slice(0, end + 1));
    expect(stopped.finishReason).toBe('stop');
    expect(plain.text.startsWith(stopped.text)).toBe(true);
    expect(describeTinyToken(stopId).text).not.toBe('');
    expect(stopped.text).toBe(textOf(plain.tokenIds.slice(0, end)));
  });
});
