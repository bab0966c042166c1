/** Part of the time that speculation may cost where it never pays. */
const ALLOWANCE = 0.005;
/**
 * What a step took counts so much more: plain steps are a little slower beside drafts than among
 * themselves.
 */
const MARGIN = 1.01;
/** In plain steps: what may be lost at first, and what must be saved up for another look. */
const FIRST_CREDIT = 8;
const LOOK_CREDIT = 1;
/**
 * Steps of a look, and what it may owe in them, in plain steps: the first takes in what was said in
 * the meantime.
 */
const LOOK_STEPS = 4;
const LOOK_DEBT = 4;
/** Steps of a worker that are not judged: their code runs for the first time, and is compiled. */
const UNJUDGED_STEPS = 32;
/** In plain steps: what only drafts that pay come to. */
const EARNED_CREDIT = 10;
/** In plain steps: the most that gains are remembered for, and losses. */
const MAX_CREDIT = 16;
const MIN_CREDIT = -16;
/**
 * Plain steps before anything else, the quickest of which is believed: the first of a kind are
 * slow.
 */
const FIRST_STEPS = 4;
/** How fast the time of a plain step is learned later, and how many times the usual one may say. */
const PLAIN_GAIN = 0.1;
const MAX_PLAIN_TIMES = 2;
/**
 * Steps after which plain ones are timed again, where speculation pays little and where it pays
 * well.
 */
const TIMED_AFTER = 32;
const TIMED_SELDOM = 192;
const PAYS_WELL = 1.3;
const TIMED_STEPS = 3;
/** A step that takes so many times a plain one counts for no more: something else came between. */
const MAX_TIMES = 4;
/**
 * Nor does proposing, which may take many: a draft model that rested reads all rows' texts anew.
 */
const MAX_PROPOSING_TIMES = 16;

/** A step in which every row decoded. */
export interface DecodeStep {
  readonly numRows: number;
  /** New tokens over all rows. */
  readonly numTokens: number;
  /** Whether the model read drafts, or side tokens of lookahead. */
  readonly isDrafted: boolean;
  readonly ms: number;
  /** Of these, before the model was called: looking things up and drafting. */
  readonly proposingMs: number;
}

interface State {
  /** Of a step without drafts and without thoughts of any. */
  plainMs: number;
  numPlain: number;
  /** Whether none was seen since the rest began: all rows said what to expect. */
  isStale: boolean;
  /** Whether the step before had drafts. */
  wasDrafted: boolean;
  /** What may be lost, in plain steps. */
  credit: number;
  isResting: boolean;
  /** Plain steps still to be timed, and steps of a look still to come. */
  numToTime: number;
  numToLook: number;
  /** Since plain steps were timed: steps, and what they gave and took, in plain steps. */
  numJudged: number;
  gained: number;
  spent: number;
}

/**
 * Whether speculation as a whole pays, by the clock alone: what a controller takes into account is
 * never all that drafting costs. With models so small that thinking about a step takes a good part
 * of it, most of the time the best thing is not to think.
 *
 * An account of time, kept by number of rows: a small part of all time is paid in, and what a step
 * gave beyond, or short of, the plain steps that take as long. Where nothing is left speculation
 * rests until another look can be afforded, so that in the long run it loses that part and no more,
 * whatever comes.
 */
export class Rest {
  readonly #stateByRows = new Map<number, State>();
  #numUnjudged: number;

  constructor(numUnjudged = UNJUDGED_STEPS) {
    this.#numUnjudged = numUnjudged;
  }

  /**
   * Whether speculation is to have no part in the next step.
   *
   * @param isMixed whether others read their prompts in it: then no clock says what drafts are
   *   worth, and they must have paid before
   */
  isResting(numRows: number, isMixed = false): boolean {
    const { isResting, credit } = this.#stateOf(numRows);
    return isResting || (isMixed && credit < EARNED_CREDIT);
  }

  /** Whether the next step is to be a plain one, to see what it takes. */
  isTiming(numRows: number): boolean {
    return this.#stateOf(numRows).numToTime > 0;
  }

  observe(step: DecodeStep): void {
    const state = this.#stateOf(step.numRows);
    // A draft makes the plain step after it slow, too.
    if (!step.isDrafted && !state.wasDrafted) learnPlain(state, step.ms - step.proposingMs);
    state.wasDrafted = step.isDrafted;
    state.credit += ALLOWANCE;
    if (state.numToTime > 0) state.numToTime -= 1;
    else if (state.isResting) continueRest(state);
    else if (this.#numUnjudged > 0) this.#numUnjudged -= 1;
    else judge(state, step);
  }

  #stateOf(numRows: number): State {
    let state = this.#stateByRows.get(numRows);
    if (state === undefined) {
      state = firstState(this.#nearest(numRows));
      this.#stateByRows.set(numRows, state);
    }
    return state;
  }

  /** What is known of the most similar number of rows. */
  #nearest(numRows: number): State | null {
    let nearest: State | null = null;
    let least = Infinity;
    for (const [other, state] of this.#stateByRows) {
      const distance = Math.abs(Math.log(other / numRows));
      if (distance >= least) continue;
      nearest = state;
      least = distance;
    }
    return nearest;
  }
}

/** Begins where another number of rows has come to, without its gains. */
function firstState(nearest: State | null): State {
  return {
    plainMs: 0,
    numPlain: 0,
    isStale: false,
    wasDrafted: false,
    credit: Math.min(nearest?.credit ?? FIRST_CREDIT, FIRST_CREDIT),
    isResting: nearest?.isResting ?? false,
    numToTime: FIRST_STEPS,
    numToLook: 0,
    numJudged: 0,
    gained: 0,
    spent: 0,
  };
}

function learnPlain(state: State, ms: number): void {
  state.numPlain += 1;
  state.isStale = false;
  if (state.numPlain <= FIRST_STEPS) {
    state.plainMs = state.numPlain === 1 ? ms : Math.min(ms, state.plainMs);
    return;
  }
  const bounded = Math.min(ms, MAX_PLAIN_TIMES * state.plainMs);
  state.plainMs += PLAIN_GAIN * (bounded - state.plainMs);
}

/** Rests until another look can be afforded, which is judged by plain steps of late. */
function continueRest(state: State): void {
  if (state.credit < LOOK_CREDIT) return;
  state.isResting = false;
  state.numToLook = LOOK_STEPS;
  if (state.isStale) state.numToTime = TIMED_STEPS;
}

function judge(state: State, { numTokens, numRows, ms, proposingMs }: DecodeStep): void {
  const gained = numTokens / numRows;
  const times = (part: number) => (MARGIN * part) / state.plainMs;
  const spent =
    Math.min(times(ms - proposingMs), MAX_TIMES) +
    Math.min(times(proposingMs), MAX_PROPOSING_TIMES);
  state.gained += gained;
  state.spent += spent;
  state.numJudged += 1;
  state.credit = clamp(state.credit + gained - spent, MIN_CREDIT, MAX_CREDIT);
  state.numToLook = Math.max(0, state.numToLook - 1);
  state.isResting = state.credit <= (state.numToLook > 0 ? -LOOK_DEBT : 0);
  state.isStale = state.isResting;

  const isWorthIt = state.gained > PAYS_WELL * state.spent;
  if (!state.isResting && state.numJudged < (isWorthIt ? TIMED_SELDOM : TIMED_AFTER)) return;
  state.numToTime = state.isResting ? 0 : TIMED_STEPS;
  state.numJudged = 0;
  state.gained = 0;
  state.spent = 0;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}
