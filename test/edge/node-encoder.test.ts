import { afterAll, describe, expect, it } from 'vitest';
import { EncoderThread } from '../../edge/node-encoder.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { createTestEdge, jsonOf } from '../support/edge.ts';
import { CHAT, COMPLETIONS, user } from '../support/malformed-requests.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

const tokenizer = createTokenizer(storiesFiles);
const encoders = new EncoderThread();
afterAll(() => encoders[Symbol.dispose]());

const words = ' Once upon a time there was a dog.';
const textOf = (numCharacters: number) => words.repeat(Math.ceil(numCharacters / words.length));
const options = { addSpecialTokens: true, maxTokens: 200_000 };

/** The longest time for which nothing else had its turn, and how long all of it took, in ms. */
async function delayDuring(work: () => Promise<unknown>) {
  const startMs = performance.now();
  let [lastMs, longestMs] = [startMs, 0];
  const turn = () => {
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - lastMs);
    lastMs = nowMs;
  };
  const timer = setInterval(turn, 1);
  await work();
  turn();
  clearInterval(timer);
  return { longestMs, wholeMs: lastMs - startMs };
}

describe('EncoderThread', () => {
  it('gives the tokens of the tokenizer, of long texts and of short ones', async () => {
    const encoder = encoders.createEncoder(storiesFiles);
    const texts = ['', 'Once', textOf(2000), textOf(3000), textOf(50_000), '漢字'.repeat(5000)];

    const encoded = await Promise.all(texts.map((text) => encoder.encode(text, options)));

    expect(encoded).toEqual(texts.map((text) => tokenizer.encode(text, options)));
  });

  it('refuses what clearly has too many', async () => {
    const encoder = encoders.createEncoder(storiesFiles);
    expect(await encoder.encode(textOf(100_000), { ...options, maxTokens: 100 })).toBeNull();
  });

  it('serves those that were closed as well', async () => {
    const [first, second] = [1, 2].map(() => encoders.createEncoder(storiesFiles));
    const text = textOf(5000);
    const last = first!.encode(text, options);
    first!.close();
    const all = await Promise.all([
      last,
      first!.encode(text, options),
      second!.encode(text, options),
    ]);

    for (const tokenIds of all) expect(tokenIds).toEqual(tokenizer.encode(text, options));
  });
});

describe('the edge on Node', () => {
  const { createEncoder } = encoders;
  const maxBodyBytes = 16_000_000;
  const endless = { context_policy: 'sinks', stream: true };

  function openEdge() {
    const edge = createTestEdge(null, { createEncoder, maxBodyBytes });
    const long = { ...storiesCard, maxSequenceTokens: 131_072, canSlide: true };
    edge.transport.register({ ...storiesCard, canSlide: true }, storiesFiles);
    edge.transport.register({ ...long, name: 'long' }, storiesFiles);
    return edge;
  }

  it('goes on while a long prompt is encoded', async () => {
    const { post, transport } = openEdge();
    const submitted = transport.nextSubmission();
    const prompt = textOf(400_000);
    const { longestMs, wholeMs } = await delayDuring(async () => {
      void post(COMPLETIONS, { model: 'long', prompt });
      await submitted;
    });

    expect((await submitted).prompts[0]).toEqual(tokenizer.encode(prompt, options));
    expect(longestMs).toBeLessThan(wholeMs / 2);
  });

  it.each([
    [COMPLETIONS, { prompt: Array(100).fill(textOf(28_000)) }, 'prompt[0]', 512],
    [COMPLETIONS, { prompt: textOf(8_000_000), ...endless }, 'prompt', 131_072],
    [CHAT, { ...user(textOf(8_000_000)), ...endless }, 'messages', 131_072],
  ])('goes on while it reads what is too long: %s', async (path, fields, param, limit) => {
    const { post, transport } = openEdge();
    const answer = Promise.withResolvers<Response>();
    const { longestMs } = await delayDuring(async () => {
      answer.resolve(await post(path, { model: storiesCard.name, ...fields }));
    });

    const response = await answer.promise;
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatchObject({
      code: 'context_length_exceeded',
      param,
      message: expect.stringMatching(`characters; the limit is ${limit} tokens`),
    });
    expect(transport.submitted).toEqual([]);
    expect(longestMs).toBeLessThan(1000);
  });
});
