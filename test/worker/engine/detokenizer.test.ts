import { describe, expect, it } from 'vitest';
import { Detokenizer } from '../../../worker/engine/detokenizer.ts';
import { integerFrom, pickFrom, type Rng, seededRng } from '../../support/random.ts';

/** Reads bytes cut into tokens; -1 stands for a special token. */
function textOf(pieces: readonly (Uint8Array | null)[]): string[] {
  const detokenizer = new Detokenizer((tokenId) => pieces[tokenId] ?? null);
  return [...pieces.map((_, tokenId) => detokenizer.push(tokenId)), detokenizer.flush()];
}

function whole(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

function cutAt(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.toSorted((a, b) => a - b), bytes.length];
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

/** Characters of one to four bytes, sometimes with bytes among them that are no UTF-8. */
function randomBytes(rng: Rng, isValid: boolean): Uint8Array {
  const encoder = new TextEncoder();
  const parts = Array.from({ length: integerFrom(rng, 1, 9) }, () => {
    if (!isValid && rng() < 0.5) return [pickFrom(rng, [0x80, 0xc0, 0xc3, 0xe2, 0xed, 0xf0, 0xff])];
    return [...encoder.encode(pickFrom(rng, ['a', 'é', '€', '😀', '\uFEFF', '\0', '界']))];
  });
  return Uint8Array.from(parts.flat());
}

describe('Detokenizer', () => {
  it('gives a character with the last of its bytes', () => {
    const bytes = new TextEncoder().encode('€');
    const pieces = [bytes.subarray(0, 1), bytes.subarray(1, 2), bytes.subarray(2)];
    expect(textOf(pieces)).toEqual(['', '', '€', '']);
  });

  it('replaces a character that was never completed', () => {
    expect(textOf([Uint8Array.of(0xe2, 0x82)])).toEqual(['', '\uFFFD']);
    expect(textOf([Uint8Array.of(0xe2, 0x82), Uint8Array.of(0x61)])).toEqual(['', '\uFFFDa', '']);
  });

  it('gives nothing for special tokens, which do not part a character', () => {
    const bytes = new TextEncoder().encode('é');
    expect(textOf([bytes.subarray(0, 1), null, bytes.subarray(1)])).toEqual(['', '', 'é', '']);
  });

  it('keeps a byte order mark, which a model may well say', () => {
    expect(textOf([Uint8Array.of(0xef, 0xbb, 0xbf)]).join('')).toBe('\uFEFF');
  });

  it('gives the text of all bytes however they are cut, once at every byte', () => {
    const rng = seededRng(21);
    for (let trial = 0; trial < 300; trial += 1) {
      const bytes = randomBytes(rng, trial % 2 === 0);
      const expected = whole(bytes);
      for (let place = 0; place <= bytes.length; place += 1) {
        expect(textOf(cutAt(bytes, [place])).join('')).toBe(expected);
      }
      const single = cutAt(
        bytes,
        Array.from(bytes, (_, i) => i),
      );
      expect(textOf(single).join('')).toBe(expected);
      const random = Array.from({ length: 4 }, () => integerFrom(rng, 0, bytes.length + 1));
      expect(textOf(cutAt(bytes, random)).join('')).toBe(expected);
    }
  });

  it('never gives half a character of valid text', () => {
    const rng = seededRng(22);
    for (let trial = 0; trial < 200; trial += 1) {
      const bytes = randomBytes(rng, true);
      const single = cutAt(
        bytes,
        Array.from(bytes, (_, i) => i),
      );
      expect(textOf(single).join('')).toBe(whole(bytes));
      for (const piece of textOf(single)) expect(piece.isWellFormed()).toBe(true);
      expect(textOf(single).join('')).not.toContain('\uFFFD');
    }
  });
});
