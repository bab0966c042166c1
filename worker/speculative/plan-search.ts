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
  /** One call of the target by longest draft. [maxLength + 1] */
  readonly callMs: Float64Array;
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
const MARGIN = 1.005;

const NOTHING: RowChoice = { lookup: null, length: 0 };

/**
 * Chooses for each row what is drafted so that the whole step gives the most tokens per
 * millisecond: all rows wait for the longest draft. Tries each length of the longest lookup with
 * each length of the model's drafts; within these bounds, each row takes what it expects more of.
 *
 * @param numOthers further rows of the same call, for which nothing is drafted
 */
export function searchPlan(
  rows: readonly SearchRow[],
  costs: SearchCosts,
  numOthers: number,
): StepPlan {
  const maxLength = costs.callMs.length - 1;
  const lookups = rows.map(({ lookups }) => bestByLength(lookups, maxLength));
  const maxDraft = Math.max(0, ...rows.map(({ drafted }) => (drafted?.length ?? 1) - 1));
  const maxLookup = Math.max(
    0,
    ...rows.flatMap((row) => row.lookups.map(({ length }) => length - 1)),
  );

  let best = {
    draft: 0,
    lookup: 0,
    leastGain: 0,
    tokens: rows.length + numOthers,
    ms: costs.callMs[0]!,
  };
  let bestRate = (MARGIN * best.tokens) / best.ms;
  for (let draft = 0; draft <= Math.min(maxDraft, maxLength); draft += 1) {
    const leastGain = draft === 0 ? 0 : bestRate * rowMs(costs, draft, rows.length);
    for (let lookup = 0; lookup <= Math.min(maxLookup, maxLength); lookup += 1) {
      if (draft === 0 && lookup === 0) continue;
      const { tokens, numDrafting } = expectTokens(rows, lookups, { draft, lookup, leastGain });
      const drafting = numDrafting === 0 ? { ms: 0, longest: 0 } : costs.draft(draft, numDrafting);
      const ms = drafting.ms + msBetween(costs.callMs, Math.max(lookup, drafting.longest));
      const rate = (tokens + rows.length + numOthers) / ms;
      if (rate <= bestRate) continue;
      best = { draft, lookup, leastGain, tokens: tokens + rows.length + numOthers, ms };
      bestRate = rate;
    }
  }
  const choices = rows.map((row, i) => choose(row, lookups[i]!, best));
  return { choices, tokens: best.tokens, ms: best.ms };
}

/** The bounds that a search is trying. */
interface Lengths {
  readonly draft: number;
  readonly lookup: number;
  /**
   * By how much the draft model's draft must exceed the lookup to be worth a row more in its runs.
   */
  readonly leastGain: number;
}

/** What the last of so many rows adds to the cost of their drafts. */
function rowMs({ draft }: SearchCosts, length: number, numRows: number): number {
  if (numRows < 2) return 0;
  return Math.max(0, draft(length, numRows).ms - draft(length, numRows - 1).ms);
}

function expectTokens(
  rows: readonly SearchRow[],
  lookups: readonly Float64Array[],
  { draft, lookup, leastGain }: Lengths,
): { tokens: number; numDrafting: number } {
  let tokens = 0;
  let numDrafting = 0;
  for (let i = 0; i < rows.length; i += 1) {
    const lookedUp = lookups[i]![lookup]!;
    const drafted = draftedAt(rows[i]!, draft);
    const isDrafting = drafted - lookedUp > leastGain;
    if (isDrafting) numDrafting += 1;
    tokens += isDrafting ? drafted : lookedUp;
  }
  return { tokens, numDrafting };
}

function draftedAt({ drafted }: SearchRow, length: number): number {
  return drafted === null ? 0 : drafted[Math.min(length, drafted.length - 1)]!;
}

/** The most that any of a row's lookups promises. @returns [maxLength + 1] */
function bestByLength(lookups: readonly Float64Array[], maxLength: number): Float64Array {
  const best = new Float64Array(maxLength + 1);
  for (const expected of lookups) {
    for (let length = 1; length <= maxLength; length += 1) {
      best[length] = Math.max(best[length]!, expected[Math.min(length, expected.length - 1)]!);
    }
  }
  return best;
}

function choose(
  row: SearchRow,
  lookups: Float64Array,
  { draft, lookup, leastGain }: Lengths,
): RowChoice {
  const lookedUp = lookups[lookup]!;
  const drafted = draftedAt(row, draft);
  if (drafted - lookedUp > leastGain) {
    return { lookup: null, length: Math.min(draft, row.drafted!.length - 1) };
  }
  if (lookedUp === 0) return NOTHING;
  const index = row.lookups.findIndex(
    (expected) => expected[Math.min(lookup, expected.length - 1)] === lookedUp,
  );
  return { lookup: index, length: Math.min(lookup, row.lookups[index]!.length - 1) };
}

/** The cost at a length between two. */
export function msBetween(callMs: Float64Array, length: number): number {
  const below = Math.min(Math.floor(length), callMs.length - 1);
  const above = Math.min(below + 1, callMs.length - 1);
  const part = length - below;
  return (1 - part) * callMs[below]! + part * callMs[above]!;
}
