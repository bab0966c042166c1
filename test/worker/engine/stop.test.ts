import { describe, expect, it } from 'vitest';
import { StopMatcher } from '../../../worker/engine/stop.ts';
import { integerFrom, type Rng, seededRng } from '../../support/random.ts';

/** Pushes pieces until one stops, and flushes if none does. */
function shownOf(stops: readonly string[], pieces: readonly string[]) {
  const matcher = new StopMatcher(stops);
  let text = '';
  for (const piece of pieces) {
    const shown = matcher.push(piece);
    text += shown.text;
    if (shown.isStopped) return { text, isStopped: true };
  }
  return { text: text + matcher.flush(), isStopped: false };
}

/**
 * Reads character by character: as soon as a stop string is complete, the longest that is ends the
 * text.
 */
function naiveShown(stops: readonly string[], text: string) {
  for (let end = 1; end <= text.length; end += 1) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const longest = Math.max(0, ...complete.map(({ length }) => length));
    if (longest > 0) return { text: text.slice(0, end - longest), isStopped: true };
  }
  return { text, isStopped: false };
}

function randomText(rng: Rng, maxLength: number): string {
  const length = integerFrom(rng, 1, maxLength + 1);
  return Array.from({ length }, () => 'ab'[integerFrom(rng, 0, 2)]).join('');
}

function cutAtRandom(rng: Rng, text: string): string[] {
  const pieces: string[] = [];
  for (let start = 0; start < text.length; ) {
    const end = start + integerFrom(rng, 0, 5);
    pieces.push(text.slice(start, end));
    start = end;
  }
  return pieces;
}

describe('StopMatcher', () => {
  it('holds back what may be the begin of a stop string, and shows it when it is none', () => {
    const matcher = new StopMatcher(['END']);
    expect(matcher.push('the E').text).toBe('the ');
    expect(matcher.push('N').text).toBe('');
    expect(matcher.push('T').text).toBe('ENT');
  });

  it('stops before a string that comes in pieces', () => {
    expect(shownOf(['END'], ['the E', 'N', 'D of it'])).toEqual({ text: 'the ', isStopped: true });
  });

  it('goes back to a shorter begin when the longer one fails', () => {
    expect(shownOf(['aab'], ['aa', 'a', 'b'])).toEqual({ text: 'a', isStopped: true });
  });

  it('stops at the string that is complete first', () => {
    expect(shownOf(['abcd', 'bc'], ['abcd'])).toEqual({ text: 'a', isStopped: true });
    expect(shownOf(['abcd', 'bc'], ['abc', 'd'])).toEqual({ text: 'a', isStopped: true });
  });

  it('hides the longest of those that are complete at once', () => {
    expect(shownOf(['bc', 'abc'], ['xabc'])).toEqual({ text: 'x', isStopped: true });
  });

  it('shows what it held back when nothing follows', () => {
    const matcher = new StopMatcher(['END']);
    matcher.push('EN');
    expect(matcher.flush()).toBe('EN');
    expect(matcher.flush()).toBe('');
  });

  it('shows all at once when there is nothing to stop at', () => {
    expect(new StopMatcher([]).push('text')).toEqual({ text: 'text', isStopped: false });
  });

  it('shows the same however a text is cut', () => {
    const rng = seededRng(12);
    for (let trial = 0; trial < 5_000; trial += 1) {
      const stops = Array.from({ length: integerFrom(rng, 1, 4) }, () => randomText(rng, 6));
      const text = randomText(rng, 24);

      expect(shownOf(stops, cutAtRandom(rng, text))).toEqual(naiveShown(stops, text));
    }
  });

  it('never shows part of a stop string that comes to its end', () => {
    const rng = seededRng(13);
    for (let trial = 0; trial < 2_000; trial += 1) {
      const stop = randomText(rng, 6);
      const text = randomText(rng, 10);
      const matcher = new StopMatcher([stop]);
      const pieces = cutAtRandom(rng, text + stop);
      const shown = pieces.map((piece) => matcher.push(piece));
      const first = shown.findIndex(({ isStopped }) => isStopped);
      const visible = shown.slice(0, first + 1).map((each) => each.text);

      expect(visible.join('')).toBe((text + stop).slice(0, (text + stop).indexOf(stop)));
    }
  });
});
