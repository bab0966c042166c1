import { describe, expect, it } from 'vitest';
import { OutputText } from '../../../worker/engine/output-text.ts';

const bytes = [[0x61], [0xc3], [0xa9], [0x62, 0x63]].map((each) => Uint8Array.from(each));

function outputText(stops: readonly string[]): OutputText {
  return new OutputText((tokenId) => bytes[tokenId] ?? null, stops);
}

describe('OutputText', () => {
  it('holds back a character and a stop string at once', () => {
    const text = outputText(['éb']);
    expect([0, 1, 2].map((tokenId) => text.push(tokenId).text)).toEqual(['a', '', '']);
    expect(text.push(3)).toEqual({ text: '', isStopped: true });
  });

  it('shows at the end what waited for the rest of either', () => {
    const text = outputText(['abcd']);
    text.push(0);
    text.push(3);
    expect(text.push(1).text).toBe('');
    expect(text.flush()).toEqual({ text: 'abc\uFFFD', isStopped: false });
  });

  it.each([
    [0, ['', '']], // "abc" with the second token
    [1, ['', '']],
    [2, ['', 'a', '']], // "bca", which began before
    [3, ['', 'a', 'bc', '']], // "abc" again
  ])('lets no stop string count that ends in the first %d tokens', (minTokens, shown) => {
    const text = new OutputText((tokenId) => bytes[tokenId] ?? null, ['abc', 'bca'], minTokens);
    const results = [0, 3, 0, 3].slice(0, shown.length).map((tokenId) => text.push(tokenId));

    expect(results.map((result) => result.text)).toEqual(shown);
    expect(results.findIndex(({ isStopped }) => isStopped)).toBe(shown.length - 1);
  });

  it('finds a stop string in what the end completes', () => {
    const text = outputText(['a\uFFFD']);
    text.push(0);
    text.push(1);
    expect(text.flush()).toEqual({ text: '', isStopped: true });
  });
});
