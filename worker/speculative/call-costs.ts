/** The shape of a call of a model. */
export interface CallShape {
  readonly numRows: number;
  /** Tokens of each row, padding included. A fraction is a mean. */
  readonly numNewTokens: number;
}

/** Latest samples of a shape that its cost is the median of. */
const MAX_SAMPLES = 9;

/** How much of a call's surprise is laid to the machine, and the most that one call counts for. */
const SPEED_GAIN = 0.4;
const MAX_SURPRISE = 0.5;

/** What a token and a row more cost, as a part of the call, before anything else is known: little, so that they are tried. */
const PRIOR_TOKEN_COST = 0.04;
const PRIOR_ROW_COST = 0.3;

/**
 * How slow the machine is just now, against its usual self: a busy neighbor slows all calls alike, and what
 * was measured before he came still says how calls compare.
 */
export class MachineSpeed {
  #slowness = 1;

  get slowness(): number {
    return this.#slowness;
  }

  /** @param surprise ms measured / ms expected */
  observe(surprise: number): void {
    const bounded = Math.max(-MAX_SURPRISE, Math.min(MAX_SURPRISE, Math.log(surprise)));
    this.#slowness *= Math.exp(SPEED_GAIN * bounded);
  }
}

/** Calls of one shape. Times are those of a machine with slowness 1. */
interface Point {
  readonly numNewTokens: number;
  readonly samples: number[]; // latest last
  ms: number;
}

/**
 * What calls of a model cost, learned from those that were made. A shape that was not tried lies on the line
 * between those around it. Costs of a few samples lean to the low side, so that one slow call, as the first
 * of a shape often is, does not keep it from being tried again.
 */
export class CallCosts {
  readonly #speed: MachineSpeed;
  readonly #pointsByRows = new Map<number, Point[]>(); // ascending by tokens
  #rowCounts: number[] = []; // ascending

  constructor(speed: MachineSpeed) {
    this.#speed = speed;
  }

  /** How many of the latest calls of a shape are known, 0 to 9. */
  numSamples({ numRows, numNewTokens }: CallShape): number {
    const points = this.#pointsByRows.get(numRows);
    return points?.find((point) => point.numNewTokens === numNewTokens)?.samples.length ?? 0;
  }

  observe({ numRows, numNewTokens, ms }: CallShape & { readonly ms: number }): void {
    if (!(ms > 0)) return;
    const expected = this.#usual(numRows, numNewTokens);
    const point = this.#pointOf(numRows, numNewTokens);
    if (point.samples.length >= 3) this.#speed.observe(ms / (point.ms * this.#speed.slowness));
    const sample = ms / this.#speed.slowness;
    point.samples.push(sample);
    if (point.samples.length > MAX_SAMPLES) point.samples.shift();
    point.ms = point.samples.length === 1 ? Math.min(sample, expected) : lowerMedian(point.samples);
  }

  /** @returns milliseconds; `null` before any call was measured */
  estimate({ numRows, numNewTokens }: CallShape): number | null {
    if (this.#rowCounts.length === 0) return null;
    return this.#usual(numRows, numNewTokens) * this.#speed.slowness;
  }

  #pointOf(numRows: number, numNewTokens: number): Point {
    let points = this.#pointsByRows.get(numRows);
    if (points === undefined) {
      points = [];
      this.#pointsByRows.set(numRows, points);
      this.#rowCounts = [...this.#pointsByRows.keys()].sort((a, b) => a - b);
    }
    const known = points.find((each) => each.numNewTokens === numNewTokens);
    if (known !== undefined) return known;
    const point = { numNewTokens, samples: [], ms: 0 };
    points.push(point);
    points.sort((a, b) => a.numNewTokens - b.numNewTokens);
    return point;
  }

  /** Milliseconds at slowness 1; `Infinity` before any call was measured. */
  #usual(numRows: number, numNewTokens: number): number {
    let below = 0;
    let above = 0;
    for (const count of this.#rowCounts) {
      if (count <= numRows) below = count;
      if (count >= numRows && above === 0) above = count;
    }
    if (below === 0 && above === 0) return Infinity;
    if (below === 0) return this.#ofRows(above, numNewTokens) / rowFactor(above / numRows);
    if (above === 0) return this.#ofRows(below, numNewTokens) * rowFactor(numRows / below);
    if (below === above) return this.#ofRows(below, numNewTokens);
    const part = (numRows - below) / (above - below);
    return (
      (1 - part) * this.#ofRows(below, numNewTokens) + part * this.#ofRows(above, numNewTokens)
    );
  }

  /** The same for a number of rows that was measured. */
  #ofRows(numRows: number, numNewTokens: number): number {
    const points = this.#pointsByRows.get(numRows)!;
    const next = points.findIndex((point) => point.numNewTokens >= numNewTokens);
    const last = points[points.length - 1]!;
    if (next === -1) {
      return last.ms + this.#tokenMs(numRows) * (numNewTokens - last.numNewTokens);
    }
    const above = points[next]!;
    if (above.numNewTokens === numNewTokens) return above.ms;
    if (next === 0) {
      const ms = above.ms - this.#tokenMs(numRows) * (above.numNewTokens - numNewTokens);
      return Math.max(ms, above.ms / 4);
    }
    const below = points[next - 1]!;
    const part = (numNewTokens - below.numNewTokens) / (above.numNewTokens - below.numNewTokens);
    return (1 - part) * below.ms + part * above.ms;
  }

  /** What another token costs beyond those measured: as between the two ends, here or for the nearest rows. */
  #tokenMs(numRows: number): number {
    let nearest = 0;
    for (const count of this.#rowCounts) {
      if (this.#pointsByRows.get(count)!.length < 2) continue;
      const isNearer = Math.abs(count - numRows) < Math.abs(nearest - numRows);
      if (nearest === 0 || isNearer) nearest = count;
    }
    if (nearest === 0) return PRIOR_TOKEN_COST * this.#pointsByRows.get(numRows)![0]!.ms;
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

/** The median; of an even number, the lesser of the two in the middle. */
function lowerMedian(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1]!;
}
