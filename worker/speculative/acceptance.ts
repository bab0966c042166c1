import { MAX_DRAFT_TOKENS, PROPOSERS, type ProposerName } from './proposer.ts';

/** What a draft that was verified, or compared with what came, says. */
export interface DraftOutcome {
  readonly proposer: ProposerName;
  readonly matchLength: number;
  /** Tokens asked for, of which a draft that stopped early has fewer. */
  readonly numPlanned: number;
  readonly numDrafted: number;
  /**
   * Of the drafted tokens, those that were held against what came: until the first that was wrong,
   * or the sequence's end.
   */
  readonly numCompared: number;
  readonly numAccepted: number;
}

/** Acceptance rates assumed before anything is known, and for how many tokens' worth. */
const PRIOR_RATE = 0.6;
const PRIOR_RATES_BY_MATCH = [0.3, 0.35, 0.45, 0.6, 0.75, 0.85]; // by bucketOf
const PRIOR_TOKENS = 3;
/** How many tokens the rate over all places counts for at one place. */
const POOLED_TOKENS = 6;
/** Tokens that the rates of a worker remember, and the odds of a sequence. */
const WORKER_MEMORY = 600;
const SEQUENCE_MEMORY = 40;
/** How many tokens a sequence is assumed to have behaved like any other. */
const SEQUENCE_PRIOR_TOKENS = 6;

const NUM_BUCKETS = PRIOR_RATES_BY_MATCH.length;

/** Lookups rest on matches of very different worth: none, 1, 2, up to 4, up to 8, more. */
function bucketOf(matchLength: number): number {
  if (matchLength <= 2) return matchLength;
  if (matchLength <= 4) return 3;
  return matchLength <= 8 ? 4 : 5;
}

/** A share that forgets: hits of trials, the latest counting most. */
class Rate {
  #hits = 0;
  #trials = 0;
  readonly #memory: number;

  constructor(memory: number) {
    this.#memory = memory;
  }

  get trials(): number {
    return this.#trials;
  }

  add(isHit: boolean): void {
    const decay = 1 - 1 / this.#memory;
    this.#hits = this.#hits * decay + (isHit ? 1 : 0);
    this.#trials = this.#trials * decay + 1;
  }

  /** As if `weight` more trials had given `prior`. */
  estimate(prior: number, weight: number): number {
    return (this.#hits + prior * weight) / (this.#trials + weight);
  }
}

/** One proposer's rates, for matches of one bucket. */
interface Cell {
  readonly prior: number;
  readonly pooled: Rate;
  readonly byPlace: readonly Rate[]; // [MAX_DRAFT_TOKENS]
}

/**
 * How a sequence's drafts fare against what was expected: accepted and rejected tokens, seen and
 * expected.
 */
interface Odds {
  accepted: number;
  rejected: number;
  expectedAccepted: number;
  expectedRejected: number;
}

/** What sets a sequence apart, by proposer. */
export type SequenceAcceptance = Map<ProposerName, Odds>;

/** Whether drafts stop early, by place. */
interface Stopping {
  /** Went on to a place, of the drafts that came to the one before. */
  readonly goingOn: readonly Rate[];
  /** The same, of those whose tokens until there were all accepted. */
  readonly goingOnAccepted: readonly Rate[];
}

/**
 * How likely drafted tokens are accepted: by proposer, by place in the draft (given that those
 * before were accepted), for lookups by length of the match; over all sequences of the worker, and
 * shifted, in odds, by how a sequence's own drafts fared against that.
 */
export class AcceptanceModel {
  readonly #cells = new Map<ProposerName, Cell[]>(); // [NUM_BUCKETS] each
  readonly #stopping = new Map<ProposerName, Stopping>();

  constructor() {
    const rates = () => Array.from({ length: MAX_DRAFT_TOKENS }, () => new Rate(WORKER_MEMORY));
    for (const proposer of PROPOSERS) {
      const isModel = proposer === 'draft' || proposer === 'staged';
      const cells = Array.from({ length: NUM_BUCKETS }, (_, bucket) => ({
        prior: isModel ? PRIOR_RATE : PRIOR_RATES_BY_MATCH[bucket]!,
        pooled: new Rate(WORKER_MEMORY),
        byPlace: rates(),
      }));
      this.#cells.set(proposer, cells);
      this.#stopping.set(proposer, { goingOn: rates(), goingOnAccepted: rates() });
    }
  }

  /**
   * Tokens expected to be accepted of drafts of each length.
   *
   * @param sequence `null` for one of which nothing is known
   * @returns [maxTokens + 1], ascending from 0
   */
  expectedAccepted(
    { proposer, matchLength }: Pick<DraftOutcome, 'proposer' | 'matchLength'>,
    maxTokens: number,
    sequence: SequenceAcceptance | null,
  ): Float64Array {
    const cell = this.#cells.get(proposer)![bucketOf(matchLength)]!;
    const { goingOnAccepted } = this.#stopping.get(proposer)!;
    const factor = oddsFactor(sequence?.get(proposer));
    const expected = new Float64Array(maxTokens + 1);
    let reached = 1;
    for (let place = 0; place < maxTokens; place += 1) {
      reached *= shifted(rateAt(cell, place), factor);
      if (place > 0) reached *= goingOnAccepted[place]!.estimate(1, 2);
      expected[place + 1] = expected[place]! + reached;
    }
    return expected;
  }

  /**
   * Tokens that the longest of `numRows` drafts is expected to have, when they may stop early.
   *
   * @returns [maxTokens + 1]
   */
  expectedDrafted(proposer: ProposerName, maxTokens: number, numRows: number): Float64Array {
    const { goingOn } = this.#stopping.get(proposer)!;
    const expected = new Float64Array(maxTokens + 1);
    let reached = 1;
    for (let place = 0; place < maxTokens; place += 1) {
      if (place > 0) reached *= goingOn[place]!.estimate(1, 2);
      expected[place + 1] = expected[place]! + 1 - (1 - reached) ** numRows;
    }
    return expected;
  }

  observe(outcome: DraftOutcome, sequence: SequenceAcceptance): void {
    const { proposer, matchLength, numCompared, numAccepted } = outcome;
    const cell = this.#cells.get(proposer)![bucketOf(matchLength)]!;
    const odds = oddsOf(sequence, proposer);
    for (let place = 0; place < numCompared; place += 1) {
      const isAccepted = place < numAccepted;
      // Not yet shifted: the odds are against what any sequence would do.
      const expected = rateAt(cell, place);
      addToOdds(odds, isAccepted, expected);
      cell.pooled.add(isAccepted);
      cell.byPlace[place]!.add(isAccepted);
    }
    this.#observeStopping(outcome);
  }

  #observeStopping({ proposer, numPlanned, numDrafted, numAccepted }: DraftOutcome): void {
    const { goingOn, goingOnAccepted } = this.#stopping.get(proposer)!;
    const numPlaces = Math.min(numPlanned, numDrafted + 1);
    for (let place = 1; place < numPlaces; place += 1) {
      goingOn[place]!.add(place < numDrafted);
      if (place <= numAccepted) goingOnAccepted[place]!.add(place < numDrafted);
    }
  }
}

function rateAt({ prior, pooled, byPlace }: Cell, place: number): number {
  const usual = pooled.estimate(prior, PRIOR_TOKENS);
  return byPlace[place]!.estimate(usual, POOLED_TOKENS);
}

function oddsOf(sequence: SequenceAcceptance, proposer: ProposerName): Odds {
  let odds = sequence.get(proposer);
  if (odds === undefined) {
    odds = { accepted: 0, rejected: 0, expectedAccepted: 0, expectedRejected: 0 };
    sequence.set(proposer, odds);
  }
  return odds;
}

function addToOdds(odds: Odds, isAccepted: boolean, expected: number): void {
  const decay = 1 - 1 / SEQUENCE_MEMORY;
  odds.accepted = odds.accepted * decay + (isAccepted ? 1 : 0);
  odds.rejected = odds.rejected * decay + (isAccepted ? 0 : 1);
  odds.expectedAccepted = odds.expectedAccepted * decay + expected;
  odds.expectedRejected = odds.expectedRejected * decay + 1 - expected;
}

/** By how much a sequence's odds of acceptance exceed those of any sequence. */
function oddsFactor(odds: Odds | undefined): number {
  if (odds === undefined) return 1;
  const { accepted, rejected, expectedAccepted, expectedRejected } = odds;
  const weight = SEQUENCE_PRIOR_TOKENS / (expectedAccepted + expectedRejected);
  const acceptedOdds = accepted / expectedAccepted + weight;
  return acceptedOdds / (rejected / expectedRejected + weight);
}

function shifted(rate: number, factor: number): number {
  return (rate * factor) / (rate * factor + 1 - rate);
}
