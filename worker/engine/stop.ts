export interface StopResult {
  /** Text that can be shown: no stop string begins in it. */
  readonly text: string;
  readonly isStopped: boolean;
}

/**
 * Looks for stop strings in text that comes in pieces. Holds back what may be the beginning of one,
 * so that no part of a stop string is ever shown.
 *
 * With stop string "END" and the pieces "the E", "N", "T": shown "the ", "", "ENT".
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** @param canStop whether a stop string counts that ends in this piece */
  push(piece: string, canStop = true): StopResult {
    const text = this.#held + piece;
    const start = canStop ? this.#stopIn(text) : -1;
    if (start !== -1) {
      this.#held = '';
      return { text: text.slice(0, start), isStopped: true };
    }
    const numHeld = this.#longestBeginning(text);
    this.#held = text.slice(text.length - numHeld);
    return { text: text.slice(0, text.length - numHeld), isStopped: false };
  }

  /** @returns what was held back, now that nothing follows */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Where the stop string begins that is complete first, the longest of several; -1 for none. */
  #stopIn(text: string): number {
    let first = -1;
    let firstEnd = Infinity;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      const end = start + stop.length;
      if (start === -1 || end > firstEnd || (end === firstEnd && start > first)) continue;
      first = start;
      firstEnd = end;
    }
    return first;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #longestBeginning(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n -= 1) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
