/**
 * What could be drafted for a row, as expected numbers of accepted tokens by length, `[length +
 * 1]`.
 */
export interface SearchRow {
  readonly lookups: readonly Float64Array[];
  /** With the draft model; `null` where it cannot. */
  readonly drafted: Float64Array | null;
}

/** What a step costs in milliseconds. */
export interface SearchCosts {
  /** The calls of the target without drafts: none are cheaper. */
  readonly plainMs: number;
  /** With drafts. @param lengths [numRows] */
  callsMs(lengths: readonly number[]): number;
  /**
   * Drafting up to `length` tokens for `numRows`, and how long the longest of these drafts gets.
   */
  draft(length: number, numRows: number): { readonly ms: number; readonly longest: number };
}

/** Draft so many tokens, looked up or drafted by the model; 0 for none. */
export interface RowChoice {
  /** Index among the row's lookups; `null` for the draft model. */
  readonly lookup: number | null;
  readonly length: number;
}

export interface StepPlan {
  readonly choices: readonly RowChoice[]; // [numRows]
  /** Expected new tokens over all rows, and what they cost. */
  readonly tokens: number;
  readonly ms: number;
}

/** Another plan than not to draft must promise this much more. */
const MARGIN = 1.02;
/** Of the best rate: where lookups promise less, and ever less, no longer ones are tried. */
const HOPELESS_RATE = 0.8;
/**
 * How likely the next token of a lookup must at least be accepted: any, where rows are padded to
 * the longest anyway; or as likely as not, so that a long lookup of one row gets a call of its own.
 */
const LEAST_RATES = [0, 0.5] as const;

const NOTHING: RowChoice = { lookup: null, length: 0 };

/** The bounds that a search is trying. */
interface Bounds {
  readonly draft: number;
  readonly lookup: number;
  /** Of `LEAST_RATES`. */
  readonly leastRate: number;
  /**
   * By how much the draft model's draft must exceed the lookup to be worth a row more in its runs.
   */
  readonly leastGain: number;
}

const NO_DRAFTS = { ms: 0, longest: 0 };
const PLAIN: Bounds = { draft: 0, lookup: 0, leastRate: 0, leastGain: 0 };

/**
 * Chooses for each row what is drafted so that the whole step gives the most tokens per
 * millisecond. Tries each length of the longest lookup with each length of the model's drafts;
 * within these bounds, each row takes what it expects more of.
 *
 * @param numOthers further rows of the step, for which nothing is drafted
 */
export function searchPlan(
  rows: readonly SearchRow[],
  costs: SearchCosts,
  numOthers: number,
): StepPlan {
  const options = rows.map((row) => new RowOptions(row));
  const maxDraft = Math.max(0, ...options.map((row) => row.maxDraft));
  const maxLookup = Math.max(0, ...options.map((row) => row.maxLookup));
  const numTokens = rows.length + numOthers;
  const search = new Search(options, costs, numTokens);
  for (let draft = 0; draft <= maxDraft; draft += 1) {
    const leastGain = draft === 0 ? 0 : search.rate * rowMs(costs, draft, rows.length);
    for (const leastRate of rows.length === 1 ? [0] : LEAST_RATES.keys()) {
      let rate = 0;
      for (let lookup = draft === 0 ? 1 : 0; lookup <= maxLookup; lookup += 1) {
        const rateBefore = rate;
        rate = search.attempt({ draft, lookup, leastRate, leastGain });
        if (rate < rateBefore && rate < HOPELESS_RATE * search.rate) break;
      }
    }
  }
  return search.plan;
}

/** What the last of so many rows adds to the cost of their drafts. */
function rowMs({ draft }: SearchCosts, length: number, numRows: number): number {
  if (numRows < 2) return 0;
  return Math.max(0, draft(length, numRows).ms - draft(length, numRows - 1).ms);
}

/** One row's choices, by the bounds that a search may set. */
class RowOptions {
  readonly #drafted: Float64Array | null;
  /** The most that any lookup promises, and which. [maxLookup + 1] */
  readonly #lookedUp: Float64Array;
  readonly #choices: RowChoice[] = [NOTHING];
  /** How far lookups go, by `LEAST_RATES`. */
  readonly #reach: readonly number[];

  constructor({ lookups, drafted }: SearchRow) {
    this.#drafted = drafted;
    const maxLookup = Math.max(0, ...lookups.map(({ length }) => length - 1));
    this.#lookedUp = new Float64Array(maxLookup + 1);
    for (let length = 1; length <= maxLookup; length += 1) this.#lookUp(lookups, length);
    this.#reach = LEAST_RATES.map((rate) => reachOf(this.#lookedUp, rate));
  }

  /** Takes the lookup that promises most at a length, if it is more than a shorter one does. */
  #lookUp(lookups: readonly Float64Array[], length: number): void {
    this.#lookedUp[length] = this.#lookedUp[length - 1]!;
    let choice = this.#choices[length - 1]!;
    for (const [lookup, expected] of lookups.entries()) {
      if (length >= expected.length || expected[length]! <= this.#lookedUp[length]!) continue;
      this.#lookedUp[length] = expected[length]!;
      choice = { lookup, length };
    }
    this.#choices.push(choice);
  }

  get maxDraft(): number {
    return (this.#drafted?.length ?? 1) - 1;
  }

  get maxLookup(): number {
    return this.#lookedUp.length - 1;
  }

  drafted({ draft }: Bounds): number {
    return this.#drafted === null ? 0 : this.#drafted[Math.min(draft, this.maxDraft)]!;
  }

  lookedUp(bounds: Bounds): number {
    return this.#lookedUp[this.#lookupLength(bounds)]!;
  }

  choose(bounds: Bounds): RowChoice {
    return this.drafted(bounds) - this.lookedUp(bounds) > bounds.leastGain
      ? { lookup: null, length: Math.min(bounds.draft, this.maxDraft) }
      : this.#choices[this.#lookupLength(bounds)]!;
  }

  /** Of the lookup within the bounds. */
  lengthOf(bounds: Bounds): number {
    return this.#choices[this.#lookupLength(bounds)]!.length;
  }

  #lookupLength({ lookup, leastRate }: Bounds): number {
    return Math.min(lookup, this.#reach[leastRate]!);
  }
}

/** Up to where each further token is as likely to be accepted. */
function reachOf(expected: Float64Array, leastRate: number): number {
  let length = 0;
  while (length + 1 < expected.length && expected[length + 1]! - expected[length]! >= leastRate) {
    length += 1;
  }
  return length;
}

/** The best of the bounds that were tried. */
class Search {
  readonly #rows: readonly RowOptions[];
  readonly #costs: SearchCosts;
  readonly #numTokens: number;
  /** Of the bounds that are being tried: who is drafted for by the model, how much for whom. */
  readonly #areDrafting: boolean[];
  readonly #lengths: number[];
  #tokensBefore = 0;
  #best: { readonly bounds: Bounds; readonly tokens: number; readonly ms: number };
  /** In tokens per millisecond, what another must exceed. */
  rate: number;

  /** @param numTokens that the step gives without drafts */
  constructor(rows: readonly RowOptions[], costs: SearchCosts, numTokens: number) {
    this.#rows = rows;
    this.#costs = costs;
    this.#numTokens = numTokens;
    this.#areDrafting = rows.map(() => false);
    this.#lengths = rows.map(() => 0);
    this.#best = { bounds: PLAIN, tokens: numTokens, ms: costs.plainMs };
    this.rate = (MARGIN * numTokens) / costs.plainMs;
  }

  get plan(): StepPlan {
    const { bounds, tokens, ms } = this.#best;
    return { choices: this.#rows.map((row) => row.choose(bounds)), tokens, ms };
  }

  /**
   * Tries bounds; of those that differ in `lookup` alone, the lowest come first.
   *
   * @returns tokens per millisecond, or more where they are no better than others
   */
  attempt(bounds: Bounds): number {
    let tokens = this.#numTokens;
    let numDrafting = 0;
    for (let i = 0; i < this.#rows.length; i += 1) {
      const row = this.#rows[i]!;
      const drafted = row.drafted(bounds);
      const lookedUp = row.lookedUp(bounds);
      const isDrafting = drafted - lookedUp > bounds.leastGain;
      this.#areDrafting[i] = isDrafting;
      if (isDrafting) numDrafting += 1;
      tokens += isDrafting ? drafted : lookedUp;
    }
    if (bounds.draft > 0 && numDrafting === 0) return this.rate; // as without the draft model
    if (tokens === this.#tokensBefore && bounds.lookup > 0) return this.rate; // as before
    this.#tokensBefore = tokens;
    const drafting = numDrafting === 0 ? NO_DRAFTS : this.#costs.draft(bounds.draft, numDrafting);
    const maxMs = tokens / this.rate - drafting.ms;
    const { plainMs } = this.#costs; // for a first look
    const callsMs = maxMs <= plainMs ? plainMs : this.#callsMs(bounds, drafting.longest, maxMs);
    const ms = drafting.ms + callsMs;
    if (callsMs >= maxMs) return tokens / ms;
    this.#best = { bounds, tokens, ms };
    this.rate = tokens / ms;
    return this.rate;
  }

  /**
   * @param longest of the model's drafts, as a mean
   * @param maxMs beyond which it need not be exact
   */
  #callsMs(bounds: Bounds, longest: number, maxMs: number): number {
    const below = Math.floor(longest);
    const ms = this.#callsMsAt(bounds, below);
    if (below === longest || ms >= maxMs) return ms;
    const part = longest - below;
    return (1 - part) * ms + part * this.#callsMsAt(bounds, below + 1);
  }

  #callsMsAt(bounds: Bounds, longest: number): number {
    for (let i = 0; i < this.#rows.length; i += 1) {
      const row = this.#rows[i]!;
      this.#lengths[i] = this.#areDrafting[i]
        ? Math.min(longest, row.maxDraft)
        : row.lengthOf(bounds);
    }
    return this.#costs.callsMs(this.#lengths);
  }
}
