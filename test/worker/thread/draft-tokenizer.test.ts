import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createTokenizer } from '../../../shared/tokenizer.ts';
import { tokenizerDifference } from '../../../worker/thread/draft-tokenizer.ts';
import { storiesFiles as files } from '../../support/stories.ts';

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(z.looseObject({ id: z.int(), content: z.string() })),
  model: z.looseObject({
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.string()),
  }),
});

type TokenizerJson = z.infer<typeof tokenizerSchema>;

const target = createTokenizer(files);

/** How the stories' tokenizer differs from itself after a change. */
function differenceAfter(change: (json: TokenizerJson) => void): string | null {
  const json = tokenizerSchema.parse(JSON.parse(files.tokenizerJson));
  change(json);
  return tokenizerDifference(
    target,
    createTokenizer({ ...files, tokenizerJson: JSON.stringify(json) }),
  );
}

describe('the tokenizer of a draft model', () => {
  it('may be another copy of its target’s', () => {
    expect(differenceAfter(() => {})).toBeNull();
  });

  it('has as many tokens', () => {
    const difference = differenceAfter(({ model }) => {
      model.vocab.one = 2048;
    });
    expect(difference).toBe('2049 tokens, the target has 2048');
  });

  it('means the same by each of them', () => {
    const difference = differenceAfter(({ model }) => {
      [model.vocab['\u0120to'], model.vocab['\u0120and']] = [269, 267];
    });
    expect(difference).toBe('token 267 is " and", the target\'s is " to"');
  });

  it('names the same special tokens', () => {
    const difference = differenceAfter((json) => {
      json.added_tokens[1]!.content = '<|human|>';
    });
    expect(difference).toBe('token 1 is "<|human|>", the target\'s is "<|user|>"');
  });

  it.each([0, 100, 1000, 1788])('splits texts alike: without merge %d', (index) => {
    const difference = differenceAfter(({ model }) => void model.merges.splice(index, 1));
    expect(difference).toMatch(/^".*" is the tokens [\d ]+, the target's are [\d ]+$/s);
  });

  it('splits texts alike: with merges in another order', () => {
    const difference = differenceAfter(({ model }) => void model.merges.reverse());
    expect(difference).toMatch(/is the tokens/);
  });
});
