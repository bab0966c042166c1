import { describe, expect, it } from 'vitest';
import { countCharacters, NO_CHARACTERS } from '../../shared/characters.ts';
import { integerFrom, pickFrom, seededRng } from '../support/random.ts';

describe('countCharacters', () => {
  it('counts a character with the last of its bytes', () => {
    const one = countCharacters(NO_CHARACTERS, [0x61, 0xc3]);
    expect(one).toEqual({ numCharacters: 1, partialBytes: [0xc3] });
    expect(countCharacters(one, [0xa9])).toEqual({ numCharacters: 2, partialBytes: [] });
  });

  it('counts as a decoder of a stream does, whatever the bytes and however they are cut', () => {
    const rng = seededRng(3);
    const edges = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf];
    const leads = [0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff];
    for (let round = 0; round < 3000; round += 1) {
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
      let expected = 0;
      let count = NO_CHARACTERS;
      for (let piece = 0; piece < 8; piece += 1) {
        const bytes = Array.from({ length: integerFrom(rng, 0, 4) }, () =>
          pickFrom(rng, rng() < 0.6 ? edges : leads),
        );
        expected += [...decoder.decode(Uint8Array.from(bytes), { stream: true })].length;
        count = countCharacters(count, bytes);

        expect(count.numCharacters).toBe(expected);
      }
      expected += [...decoder.decode()].length;
      expect(count.numCharacters + (count.partialBytes.length > 0 ? 1 : 0)).toBe(expected);
    }
  });
});
