import { describe, expect, it } from 'vitest';
import { createInlineEncoder, encodeUpTo } from '../../edge/encoder.ts';
import { createTokenizer, type Tokenizer } from '../../shared/tokenizer.ts';
import { pickFrom, seededRng } from '../support/random.ts';
import { storiesFiles } from '../support/stories.ts';

const tokenizer = createTokenizer(storiesFiles);
const options = { addSpecialTokens: false };

/** Counts the characters that are encoded. */
function counting() {
  const counts = { numCharacters: 0 };
  const encode: Tokenizer['encode'] = (text, each) => {
    counts.numCharacters += text.length;
    return tokenizer.encode(text, each);
  };
  return { counts, tokenizer: { ...tokenizer, encode } };
}

const longTokens = Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.tokenText(id))
  .filter((text) => /^ [a-z]{8,}$/.test(text))
  .sort();

describe('encodeUpTo', () => {
  it.each([
    ['long words', 0],
    ['words cut anywhere', 1],
    ['letters', 2],
    ['characters of three bytes', 3],
  ])('never refuses a text that fits: %s', async (_, kind) => {
    const rng = seededRng(kind);
    const inWords = longTokens.map((text) => text.slice(2));
    const pieces = [longTokens, inWords, [...'abcdefgh'], [...'漢字']][kind]!;
    const text = Array.from({ length: 5000 }, () => pickFrom(rng, pieces)).join('');
    const tokenIds = tokenizer.encode(text, options);

    expect(await encodeUpTo(text, { ...options, maxTokens: tokenIds.length }, tokenizer)).toEqual(
      tokenIds,
    );
  });

  it('looks at the pieces of a text of long words, which has more than 8 characters a token', () => {
    const text = longTokens.join('');
    expect(text.length).toBeGreaterThan(8 * tokenizer.encode(text, options).length);
  });

  it.each([' Once upon a time', 'x', ' ', '漢字', '\ud83d\ude00'])(
    'reads of a text that cannot fit no more than of one that may: %j',
    async (piece) => {
      const { counts, tokenizer: counted } = counting();
      const text = piece.repeat(2_000_000 / piece.length);

      expect(await encodeUpTo(text, { ...options, maxTokens: 512 }, counted)).toBeNull();
      expect(counts.numCharacters).toBeLessThanOrEqual(8192);
    },
  );
});

describe('an encoder on the thread that asks', () => {
  it('gives it back between texts, and within one that is too long', async () => {
    const encoder = createInlineEncoder(tokenizer);
    const encodeAll = async (texts: readonly string[], maxTokens: number) => {
      let numTurns = 0;
      const timer = setInterval(() => {
        numTurns += 1;
      }, 0);
      for (const text of texts) await encoder.encode(text, { ...options, maxTokens });
      clearInterval(timer);
      return numTurns;
    };

    expect(await encodeAll(Array(100).fill(' a dog'.repeat(400)), 2048)).toBeGreaterThan(5);
    expect(await encodeAll([' a dog'.repeat(100_000)], 60_000)).toBeGreaterThan(5);
  });
});
