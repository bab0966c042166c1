/** The shape of a call of a model. */
export interface CallShape {
  readonly numRows: number;
  /** Tokens of each row, padding included. A fraction is a mean. */
  readonly numNewTokens: number;
}

/**
 * Variances, of logarithms: of a call's time by itself, and of what is thought of a shape before it
 * is measured.
 */
const CALL_NOISE = 0.05 ** 2;
const SHAPE_DOUBT = 0.5 ** 2;
/** The first call of a shape is often slow, and hardly says more than was known before. */
const FIRST_CALL_NOISE = 1 ** 2;
/**
 * How much variance a call's time adds: machines change their speed, and shapes, slowly, what they
 * cost.
 */
const SPEED_DRIFT = 0.01 ** 2;
const SHAPE_DRIFT = 0.001 ** 2;
/**
 * A call this many deviations off counts for no more; two in a row on one side, and the machine has
 * changed.
 */
const MAX_DEVIATIONS = 2.5;
const CHANGE_DOUBT = 0.3 ** 2;
/**
 * By how many deviations, and by what part at most, a shape that is little known, or no longer, is
 * thought cheaper.
 */
const HOPE = 1;
const MAX_HOPE = 0.2;
/** The same of one between others that was never called. */
const UNTRIED_HOPE = 0.03;

/** What a row more costs, as a part of the call, before anything else is known. */
const PRIOR_ROW_COST = 0.3;

/** What is thought of a quantity: its logarithm and the variance of that. */
interface Belief {
  mean: number;
  variance: number;
}

/**
 * How slow the machine is just now, against its usual self: a busy neighbor slows all calls alike,
 * and what was measured before he came still says how calls compare. A Kalman filter shares each
 * call's surprise out between the machine and the shape of the call, by how much is known of each.
 */
export class MachineSpeed {
  readonly #slowness: Belief = { mean: 0, variance: 0 };
  #wasOff = 0;
  #numCalls = 0;

  get numCalls(): number {
    return this.#numCalls;
  }

  get slowness(): number {
    return Math.exp(this.#slowness.mean);
  }

  observe(ms: number, shape: Belief, noise: number): void {
    this.#numCalls += 1;
    this.#slowness.variance += SPEED_DRIFT;
    const surprise = Math.log(ms) - this.#slowness.mean - shape.mean;
    const deviation = Math.sqrt(this.#slowness.variance + shape.variance + noise);
    const isOff = Math.abs(surprise) > MAX_DEVIATIONS * deviation ? Math.sign(surprise) : 0;
    if (isOff !== 0 && isOff === this.#wasOff) this.#slowness.variance += CHANGE_DOUBT;
    this.#wasOff = isOff;

    // What surprises is likely to be noise, and to say little, as in a Student's t distribution.
    const doubtful = Math.max(noise, (surprise / 2) ** 2);
    const variance = this.#slowness.variance + shape.variance + doubtful;
    const limit = MAX_DEVIATIONS * Math.sqrt(variance);
    const bounded = Math.max(-limit, Math.min(limit, surprise));
    for (const belief of [this.#slowness, shape]) {
      const gain = belief.variance / variance;
      belief.mean += gain * bounded;
      belief.variance *= 1 - gain;
    }
  }
}

/** Calls of one shape, at slowness 1. */
interface Point {
  readonly numNewTokens: number;
  readonly log: Belief;
  ms: number;
  numCalls: number;
  lastCall: number;
}

/** What is assumed of costs before anything is measured. */
export interface CostPrior {
  /** What a token more for each row costs, as a part of a call with one. */
  readonly tokenCost: (numRows: number) => number;
  /** Other costs, which these resemble; `null` for none. */
  readonly like: CallCosts | null;
}

/**
 * What calls of a model cost, learned from those that were made. A shape that was not tried lies on
 * the line between those around it. One that was called a few times only, or not for long, is
 * thought somewhat cheaper than it was, so that it is tried again where it comes close, and a wrong
 * idea of it does not last.
 */
export class CallCosts {
  readonly #speed: MachineSpeed;
  readonly #prior: CostPrior;
  readonly #pointsByRows = new Map<number, Point[]>(); // ascending by tokens
  #rowCounts: number[] = []; // ascending

  constructor(speed: MachineSpeed, prior: CostPrior) {
    this.#speed = speed;
    this.#prior = prior;
  }

  /** How many calls of a shape were measured. */
  numCalls({ numRows, numNewTokens }: CallShape): number {
    const points = this.#pointsByRows.get(numRows);
    return points?.find((point) => point.numNewTokens === numNewTokens)?.numCalls ?? 0;
  }

  observe({ numRows, numNewTokens, ms }: CallShape & { readonly ms: number }): void {
    if (!(ms > 0)) return;
    const speed = this.#speed;
    const point = this.#pointOf(numRows, numNewTokens, ms / speed.slowness);
    point.log.variance += SHAPE_DRIFT * (speed.numCalls - point.lastCall);
    speed.observe(ms, point.log, point.numCalls === 0 ? FIRST_CALL_NOISE : CALL_NOISE);
    point.ms = Math.exp(point.log.mean);
    point.numCalls += 1;
    point.lastCall = speed.numCalls;
  }

  /** @returns milliseconds; `null` before any call was measured */
  estimate({ numRows, numNewTokens }: CallShape): number | null {
    if (this.#isBlank) return null;
    return this.#usual(numRows, numNewTokens) * this.#speed.slowness;
  }

  /** Whether nothing is known, here or of what these costs are like. */
  get #isBlank(): boolean {
    const { like } = this.#prior;
    return this.#rowCounts.length === 0 && (like === null || like.#isBlank);
  }

  /** @param firstMs what is thought of the shape when nothing else is known */
  #pointOf(numRows: number, numNewTokens: number, firstMs: number): Point {
    const expected = this.#isBlank ? firstMs : this.#usual(numRows, numNewTokens);
    let points = this.#pointsByRows.get(numRows);
    const known = points?.find((each) => each.numNewTokens === numNewTokens);
    if (known !== undefined) return known;
    if (points === undefined) {
      points = [];
      this.#pointsByRows.set(numRows, points);
      this.#rowCounts = [...this.#pointsByRows.keys()].sort((a, b) => a - b);
    }
    const log = { mean: Math.log(expected), variance: SHAPE_DOUBT };
    const lastCall = this.#speed.numCalls;
    const point = { numNewTokens, log, ms: expected, numCalls: 0, lastCall };
    points.push(point);
    points.sort((a, b) => a.numNewTokens - b.numNewTokens);
    return point;
  }

  /** Milliseconds at slowness 1, once anything is known. */
  #usual(numRows: number, numNewTokens: number): number {
    let below = 0;
    let above = 0;
    for (const count of this.#rowCounts) {
      if (count <= numRows) below = count;
      if (count >= numRows && above === 0) above = count;
    }
    if (below === 0 && above === 0) return this.#prior.like!.#usual(numRows, numNewTokens);
    if (below === above) return this.#ofRows(below, numNewTokens);
    if (below === 0 || above === 0) {
      const nearest = Math.max(below, above);
      return this.#ofRows(nearest, numNewTokens) * this.#times(nearest, numRows, numNewTokens);
    }
    const part = (numRows - below) / (above - below);
    return (
      (1 - part) * this.#ofRows(below, numNewTokens) + part * this.#ofRows(above, numNewTokens)
    );
  }

  /** How much more `numRows` cost than `measured` ones do. */
  #times(measured: number, numRows: number, numNewTokens: number): number {
    const { like } = this.#prior;
    if (like !== null && !like.#isBlank) {
      return like.#usual(numRows, numNewTokens) / like.#usual(measured, numNewTokens);
    }
    return numRows > measured ? rowFactor(numRows / measured) : 1 / rowFactor(measured / numRows);
  }

  /** The same for a number of rows that was measured. */
  #ofRows(numRows: number, numNewTokens: number): number {
    const points = this.#pointsByRows.get(numRows)!;
    const next = points.findIndex((point) => point.numNewTokens >= numNewTokens);
    if (next === -1) return this.#from(numRows, points[points.length - 1]!, numNewTokens);
    const above = points[next]!;
    if (above.numNewTokens === numNewTokens) {
      const drift = SHAPE_DRIFT * (this.#speed.numCalls - above.lastCall);
      const deviation = Math.sqrt(above.log.variance + drift);
      return above.ms * (1 - Math.min(MAX_HOPE, HOPE * deviation));
    }
    if (next === 0) return this.#from(numRows, above, numNewTokens);
    const below = points[next - 1]!;
    const part = (numNewTokens - below.numNewTokens) / (above.numNewTokens - below.numNewTokens);
    return (1 - UNTRIED_HOPE) * ((1 - part) * below.ms + part * above.ms);
  }

  /** What lies beyond the shapes that were measured for these rows, from the last of them on. */
  #from(numRows: number, { ms, numNewTokens: measured }: Point, numNewTokens: number): number {
    const more = numNewTokens - measured;
    const perToken = this.#tokenMs(numRows);
    if (perToken !== null) return Math.max(ms + perToken * more, ms / 4);
    const { like } = this.#prior;
    if (like !== null && !like.#isBlank) {
      const moreMs = like.#usual(numRows, numNewTokens) - like.#usual(numRows, measured);
      return Math.max(ms + moreMs, ms / 4);
    }
    const tokenCost = this.#prior.tokenCost(numRows);
    return ms * (1 + (tokenCost * more) / (1 + tokenCost * (measured - 1)));
  }

  /**
   * What another token costs beyond those measured: as between the two ends, here or for the
   * nearest rows; `null` where only calls of one length were.
   */
  #tokenMs(numRows: number): number | null {
    let nearest = 0;
    for (const count of this.#rowCounts) {
      if (this.#pointsByRows.get(count)!.length < 2) continue;
      const isNearer = Math.abs(count - numRows) < Math.abs(nearest - numRows);
      if (nearest === 0 || isNearer) nearest = count;
    }
    if (nearest === 0) return null;
    const points = this.#pointsByRows.get(nearest)!;
    const first = points[0]!;
    const last = points[points.length - 1]!;
    const perToken = (last.ms - first.ms) / (last.numNewTokens - first.numNewTokens);
    return (Math.max(0, perToken) * numRows) / nearest;
  }
}

/** How much more so many times the rows cost. */
function rowFactor(times: number): number {
  return 1 + PRIOR_ROW_COST * (times - 1);
}
