/** Steps that are judged together, and a loss, in plain steps, at which the last of them are not waited for. */
const WINDOW = 16;
const MAX_LOSS = 4;
/** Steps of rest after a window that did not pay, and how that grows while none does. */
const MIN_PAUSE = 32;
const MAX_PAUSE = 512;
const PAUSE_GROWTH = 4;
/** A window must lose this part of what plain steps would have taken to be a loss. */
const TOLERANCE = 0.005;
/** Plain steps before anything else, the quickest of which is believed: the first of a kind are slow. */
const FIRST_STEPS = 4;
/** How fast the time of a plain step is learned later. */
const PLAIN_GAIN = 0.1;
/** Windows that pay in a row before plain steps are timed again, where it pays little and where it pays well. */
const TIMED_AFTER = 2;
const TIMED_SELDOM = 12;
const PAYS_WELL = 1.3;
const TIMED_STEPS = 2;
/** A step that takes so many times a plain one counts for no more: something else came between. */
const MAX_TIMES = 16;

/** A step in which every row decoded. */
export interface DecodeStep {
  readonly numRows: number;
  /** New tokens over all rows. */
  readonly numTokens: number;
  readonly isDrafted: boolean;
  readonly ms: number;
  /** Of these, before the model was called: looking things up and drafting. */
  readonly proposingMs: number;
}

interface State {
  /** Of a step without drafts and without thoughts of any. */
  plainMs: number;
  numPlain: number;
  gainMs: number;
  spentMs: number;
  numJudged: number;
  numPaying: number;
  numResting: number;
  pause: number;
}

/**
 * Whether speculation as a whole pays, by the clock alone: what a controller takes into account is never all
 * that drafting costs. With models so small that thinking about a step takes a good part of it, most of the
 * time the best thing is not to think. Kept by number of rows.
 */
export class Rest {
  readonly #stateByRows = new Map<number, State>();

  /** Whether there is to be no drafting in the next step. */
  isResting(numRows: number): boolean {
    return this.#stateOf(numRows).numResting > 0;
  }

  observe(step: DecodeStep): void {
    const state = this.#stateOf(step.numRows);
    if (!step.isDrafted) learnPlain(state, step.ms - step.proposingMs);
    if (state.numResting > 0) {
      state.numResting -= 1;
      return;
    }
    state.gainMs += (step.numTokens / step.numRows) * state.plainMs;
    state.spentMs += Math.min(step.ms, MAX_TIMES * state.plainMs);
    state.numJudged += 1;
    const isLost = state.spentMs > state.gainMs + MAX_LOSS * state.plainMs;
    if (state.numJudged === WINDOW || isLost) judge(state);
  }

  #stateOf(numRows: number): State {
    let state = this.#stateByRows.get(numRows);
    if (state === undefined) {
      state = {
        plainMs: 0,
        numPlain: 0,
        gainMs: 0,
        spentMs: 0,
        numJudged: 0,
        numPaying: 0,
        numResting: FIRST_STEPS,
        pause: MIN_PAUSE,
      };
      this.#stateByRows.set(numRows, state);
    }
    return state;
  }
}

function learnPlain(state: State, ms: number): void {
  state.numPlain += 1;
  if (state.numPlain <= FIRST_STEPS) {
    state.plainMs = state.numPlain === 1 ? ms : Math.min(ms, state.plainMs);
    return;
  }
  const bounded = Math.min(ms, MAX_TIMES * state.plainMs);
  state.plainMs += PLAIN_GAIN * (bounded - state.plainMs);
}

function judge(state: State): void {
  const worth = state.gainMs / state.spentMs;
  if (worth < 1 - TOLERANCE) {
    state.numPaying = 0;
    state.numResting = state.pause;
    state.pause = Math.min(PAUSE_GROWTH * state.pause, MAX_PAUSE);
  } else {
    state.numPaying += 1;
    state.pause = MIN_PAUSE;
    if (state.numPaying % (worth < PAYS_WELL ? TIMED_AFTER : TIMED_SELDOM) === 0) {
      state.numResting = TIMED_STEPS;
    }
  }
  state.gainMs = 0;
  state.spentMs = 0;
  state.numJudged = 0;
}
