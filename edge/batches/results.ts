import type { BatchProgress } from '../../shared/protocol/batch.ts';
import type { Commit } from '../transport/batches.ts';
import type { LineAnswer } from './answer-line.ts';
import type { Line } from './lines.ts';

/** Bytes of results that are written at once. */
const COMMIT_BYTES = 128 * 1024;

interface Slot {
  readonly number: number;
  readonly end: number;
  /** Of the line. */
  readonly numBytes: number;
  answer: LineAnswer | null;
}

type Counts = Commit['progress'];

/**
 * Lines that are begun and not yet written, in the order of the input. Results come in any order
 * and are written in this one, so that one number says how far they reach.
 */
export class Results {
  readonly #slots: Slot[] = [];
  #counts: Counts;
  #begunUntil: number;
  #numWaiting = 0;
  #numWaitingBytes = 0;
  #numHeld = 0;

  constructor({ nextLine, byteOffset, numCompleted, numFailed }: BatchProgress) {
    this.#counts = { nextLine, byteOffset, numCompleted, numFailed };
    this.#begunUntil = byteOffset;
  }

  /** Lines without an answer. */
  get numWaiting(): number {
    return this.#numWaiting;
  }

  /** Bytes of those lines. */
  get numWaitingBytes(): number {
    return this.#numWaitingBytes;
  }

  get numSlots(): number {
    return this.#slots.length;
  }

  /** Characters of answers that wait to be written. */
  get numHeld(): number {
    return this.#numHeld;
  }

  /** @returns takes the line's answer */
  begin({ number, end }: Line): (answer: LineAnswer) => void {
    const numBytes = end - this.#begunUntil;
    const slot: Slot = { number, end, numBytes, answer: null };
    this.#slots.push(slot);
    this.#begunUntil = end;
    this.#numWaiting += 1;
    this.#numWaitingBytes += numBytes;
    return (answer) => {
      slot.answer = answer;
      this.#numWaiting -= 1;
      this.#numWaitingBytes -= numBytes;
      this.#numHeld += answer.type === 'undone' ? 0 : answer.text.length;
    };
  }

  /**
   * What can be written next, as much as is written at once; `null` while the first line has no
   * answer.
   */
  take(): Commit | null {
    let [output, errors] = ['', ''];
    let counts = this.#counts;
    while (output.length + errors.length < COMMIT_BYTES) {
      const slot = this.#slots[0];
      if (slot === undefined || slot.answer === null) break;
      this.#slots.shift();
      const { number: nextLine, end: byteOffset, answer } = slot;
      counts = { ...counts, nextLine, byteOffset };
      if (answer.type === 'undone') continue;
      this.#numHeld -= answer.text.length;
      if (answer.type === 'completed') {
        output += answer.text;
        counts = { ...counts, numCompleted: counts.numCompleted + 1 };
      } else {
        errors += answer.text;
        counts = { ...counts, numFailed: counts.numFailed + 1 };
      }
    }
    if (counts === this.#counts) return null;
    this.#counts = counts;
    return { progress: counts, output, errors };
  }
}
