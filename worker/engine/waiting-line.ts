import type { Sequence } from './sequence.ts';

/**
 * Sequences that wait for a row: interactive ones, then those of class `batch`. Within a class the
 * most urgent come first, then the oldest.
 *
 * Those that gave their row away when their turn was over stand apart, behind nobody and before
 * nobody: rows go to them and to the others of their class by turns, so that neither can keep the
 * other from running.
 */
export class WaitingLine {
  readonly #interactive: Sequence[] = [];
  readonly #batch: Sequence[] = [];
  readonly #rested: Sequence[] = []; // longest ago first
  #isTurnOfRested = false;

  get numInteractive(): number {
    return this.#interactive.length;
  }

  get numBatch(): number {
    return this.#batch.length + this.#rested.length;
  }

  get sequences(): Sequence[] {
    return [...this.#interactive, ...this.#batch, ...this.#rested];
  }

  /** Behind those that are as urgent. */
  add(sequence: Sequence): void {
    const line = this.#lineOf(sequence);
    const { priority } = sequence.options;
    const after = line.findLastIndex((other) => other.options.priority <= priority);
    line.splice(after + 1, 0, sequence);
  }

  /** Before those that are as urgent: it had a row already, and lost it to another class. */
  putBack(sequence: Sequence): void {
    const line = this.#lineOf(sequence);
    const { priority } = sequence.options;
    const before = line.findIndex((other) => other.options.priority >= priority);
    line.splice(before === -1 ? line.length : before, 0, sequence);
  }

  /** Behind all others whose turn was over before. */
  addRested(sequence: Sequence): void {
    this.#rested.push(sequence);
  }

  /** The next to have a row. */
  get next(): Sequence | undefined {
    return this.#nextLine[0];
  }

  /** Lets the next one go. */
  take(): void {
    const hasTurns = this.#batch.length > 0 && this.#rested.length > 0;
    const line = this.#nextLine;
    if (line !== this.#interactive && hasTurns) this.#isTurnOfRested = line === this.#batch;
    line.shift();
  }

  get #nextLine(): Sequence[] {
    if (this.#interactive.length > 0) return this.#interactive;
    if (this.#batch.length === 0) return this.#rested;
    if (this.#rested.length === 0) return this.#batch;
    return this.#isTurnOfRested ? this.#rested : this.#batch;
  }

  /** @returns whether it waited here */
  remove(sequence: Sequence): boolean {
    for (const line of [this.#interactive, this.#batch, this.#rested]) {
      const index = line.indexOf(sequence);
      if (index !== -1) return line.splice(index, 1).length > 0;
    }
    return false;
  }

  #lineOf({ isInteractive }: Sequence): Sequence[] {
    return isInteractive ? this.#interactive : this.#batch;
  }
}
