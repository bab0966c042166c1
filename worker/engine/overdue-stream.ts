import type { Sequence } from './sequence.ts';
import type { WaitingLine } from './waiting-line.ts';

/** A stream without bound that has waited for a row for so long is overdue, */
const MAX_WAIT_MS = 5000;
/** until it has had so many tokens. */
const TURN_TOKENS = 64;

/**
 * Keeps interactive sequences, however many come, from leaving no row to streams without bound:
 * somebody reads those, too. One at a time, the one that has waited for longest, is served as if it
 * were interactive.
 */
export class OverdueStream {
  readonly #line: WaitingLine;
  #sequence: Sequence | null = null;
  /** Output tokens with which its turn is over. */
  #endTokens = 0;

  constructor(line: WaitingLine) {
    this.#line = line;
  }

  /** Ends a turn that is over, and begins the next that is due. @param nowMs by any one clock */
  update(nowMs: number): void {
    if (this.#sequence !== null && this.#sequence.numOutputTokens >= this.#endTokens) {
      this.#change(this.#sequence, false);
      this.#sequence = null;
    }
    const waiting = this.#line.sequences.filter(isUnboundedStream);
    for (const each of waiting) each.waitingSinceMs ??= nowMs;
    if (this.#sequence !== null) return;
    const [longest] = waiting.sort((a, b) => waitedMs(b, nowMs) - waitedMs(a, nowMs));
    if (longest === undefined || waitedMs(longest, nowMs) <= MAX_WAIT_MS) return;
    this.#sequence = longest;
    this.#endTokens = longest.numOutputTokens + TURN_TOKENS;
    this.#change(longest, true);
  }

  /** Forgets a sequence that is gone. */
  remove(sequence: Sequence): void {
    if (this.#sequence === sequence) this.#sequence = null;
  }

  /** Where it waits, it does so in another line from now on, and first of those as urgent. */
  #change(sequence: Sequence, isOverdue: boolean): void {
    const isWaiting = this.#line.remove(sequence);
    sequence.isOverdue = isOverdue;
    if (isWaiting) this.#line.putBack(sequence);
  }
}

function isUnboundedStream({ options }: Sequence): boolean {
  return options.isUnbounded && options.isStream;
}

function waitedMs({ waitingSinceMs }: Sequence, nowMs: number): number {
  return nowMs - (waitingSinceMs ?? nowMs);
}
