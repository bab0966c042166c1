/** Shortest and longest pauses between probes, in steps: of a sequence, and of a worker. */
const MIN_PAUSE = 8;
const MAX_SEQUENCE_PAUSE = 32;
const MAX_WORKER_PAUSE = 1024;

/**
 * Part of all time that probes may cost, and the plain steps' worth that a new worker may spend at
 * once.
 */
const PROBING_SHARE = 0.004;
const GRANTED_STEPS = 3;

/** Lengths of a draft that is but a trial, in turn: what each costs must stay known. */
const LENGTHS = [2, 1] as const;

/** When to try again what did not pay: soon at first, then ever later, until it succeeds. */
export class ProbeSchedule {
  readonly #maxPause: number;
  #pause = MIN_PAUSE;
  #nextStep = 0;

  constructor(maxPause = MAX_SEQUENCE_PAUSE) {
    this.#maxPause = maxPause;
  }

  isDue(step: number): boolean {
    return step >= this.#nextStep;
  }

  /**
   * Whether it soon will be, so that it may as well join another's probe: all rows wait for that.
   */
  isNearlyDue(step: number): boolean {
    return step + this.#pause / 2 >= this.#nextStep;
  }

  /** Drafting pays as things stand; when it no longer seems to, look again soon. */
  keepReady(step: number): void {
    this.#pause = MIN_PAUSE;
    this.#nextStep = step + MIN_PAUSE;
  }

  /** Until its outcome is known, a probe is taken for a failed one. */
  start(step: number): void {
    this.#pause = Math.min(2 * this.#pause, this.#maxPause);
    this.#nextStep = step + this.#pause;
  }

  succeed(step: number): void {
    this.#pause = MIN_PAUSE;
    this.#nextStep = step + 1;
  }
}

/** A row that might be probed. */
export interface ProbeRow {
  readonly schedule: ProbeSchedule;
  /**
   * Tokens expected to be accepted with the draft model, by length; `null` where it cannot draft.
   */
  readonly drafted: Float64Array | null;
  /** Whether the step's plan drafts with it anyway. */
  readonly isDrafting: boolean;
}

/** What a probe would cost the step. */
export interface ProbeStep {
  readonly step: number;
  readonly plainMs: number;
  /**
   * By how much a step with such drafts beside the plan's, gaining so many tokens, falls short of
   * the plan. @param lengths [rows.length]
   */
  lossMs(lengths: readonly number[], gained: number): number;
  /** Whether the draft model might pay at its best. */
  mightPay(): boolean;
  /** Whether it pays for a sequence of which nothing is known. */
  usuallyPays(): boolean;
}

/** Tries the draft model out where it does not seem to pay, within a small part of all time. */
export class Prober {
  readonly #schedule = new ProbeSchedule(MAX_WORKER_PAUSE);
  #numProbes = 0;
  #totalMs = 0;
  #spentMs = 0;

  /** Counts time, of which a part may be spent. */
  earn(ms: number): void {
    this.#totalMs += ms;
  }

  succeed(step: number): void {
    this.#schedule.succeed(step);
  }

  /** @returns the draft's length for each row, 0 where it is not probed [rows.length] */
  choose(rows: readonly ProbeRow[], probe: ProbeStep): readonly number[] {
    const { step } = probe;
    for (const { schedule, isDrafting } of rows) if (isDrafting) schedule.keepReady(step);
    if (rows.some(({ isDrafting }) => isDrafting)) this.#schedule.keepReady(step);

    const none = rows.map(() => 0);
    const length = LENGTHS[this.#numProbes % LENGTHS.length]!;
    const canDraft = ({ drafted, isDrafting }: ProbeRow) =>
      !isDrafting && drafted !== null && drafted.length > length;
    if (!rows.some((row) => canDraft(row) && row.schedule.isDue(step))) return none;
    if (!probe.mightPay()) return none;
    // A draft model that is no good to anyone is not tried with each new sequence.
    if (!this.#schedule.isDue(step) && !probe.usuallyPays()) return none;

    const joining = rows.filter((row) => canDraft(row) && row.schedule.isNearlyDue(step));
    const gained = joining.reduce((sum, { drafted }) => sum + drafted![length]!, 0);
    const lengths = rows.map((row) => (joining.includes(row) ? length : 0));
    if (!this.#spend(probe.lossMs(lengths, gained), probe.plainMs)) return none;
    this.#numProbes += 1;
    this.#schedule.start(step);
    for (const { schedule } of joining) schedule.start(step);
    return lengths;
  }

  #spend(lossMs: number, plainMs: number): boolean {
    const available = PROBING_SHARE * this.#totalMs + GRANTED_STEPS * plainMs - this.#spentMs;
    if (lossMs > available) return false;
    this.#spentMs += Math.max(0, lossMs);
    return true;
  }
}
