import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { planCalls } from '../../worker/engine/call-plan.ts';
import type { Candidate, DraftPolicy, TargetCall } from '../../worker/speculative/policy.ts';
import type { ProposerName } from '../../worker/speculative/proposer.ts';
import type { Rng } from './random.ts';

/** Milliseconds of a 110M-parameter model by rows and new tokens, measured on two cores. */
export const STEP_MS = {
  fp32: {
    one: [26.6, 24.8, 27.7, 30.7, 33, 34.1, 35.2, 36.3, 37.4],
    eight: 56,
    sixteen: [92, 233],
  },
  blocks: {
    one: [10.6, 13.3, 15.1, 17, 18.9, 21.7, 24.4, 27.2, 30],
    eight: 45,
    sixteen: [85, 205],
  },
  int8: {
    one: [16.9, 18.6, 19.5, 20.4, 22.6, 23.4, 24.2, 25.1, 26],
    eight: 33,
    sixteen: [77, 166],
  },
} as const;

export type WeightFormat = keyof typeof STEP_MS;

/** A step's true cost: straight lines between what was measured. */
export function trueCallMs(format: WeightFormat, numRows: number, numNewTokens: number): number {
  const { one, eight, sixteen } = STEP_MS[format];
  const last = one[one.length - 1]!;
  const perTokenMore = last - one[one.length - 2]!;
  const single = one[numNewTokens - 1] ?? last + perTokenMore * (numNewTokens - one.length);
  const perToken = (sixteen[1] - sixteen[0]) / 4;
  if (numRows >= 8) {
    const plain = eight + ((sixteen[0] - eight) * (numRows - 8)) / 8;
    return plain + (perToken * numRows * (numNewTokens - 1)) / 16;
  }
  const ofEight = eight + (perToken / 2) * (numNewTokens - 1);
  return single + ((ofEight - single) * (numRows - 1)) / 7;
}

/** The same with the columns of the frozen part, 4096 of which cost what another call does. */
function callMs(format: WeightFormat, { numRows, numNewTokens, frozenCapacity }: TargetCall) {
  const columns = numRows * (frozenCapacity - BLOCK_SIZE) * (1 + 0.1 * (numNewTokens - 1));
  return trueCallMs(format, numRows, numNewTokens) + (STEP_MS[format].one[0] * columns) / 4096;
}

/** What a sequence is like at some time. */
export interface Regime {
  /**
   * How often the target agrees with the draft model's token at each place; the last holds for all
   * after.
   */
  readonly draftAcceptance: readonly number[];
  /** How sure the draft model says it is, where that is not how often it is right. */
  readonly claimed?: number;
  /** How often a lookup finds something, and how often each of its tokens is right. */
  readonly lookup?: {
    readonly found: number;
    readonly acceptance: number;
    readonly matchLength: number;
  };
}

export interface WorldOptions {
  readonly format: WeightFormat;
  /** A run of the draft model, as a part of the target's step with one token. */
  readonly draftCost: number;
  readonly proposers: readonly ProposerName[];
  readonly maxDraft: number;
  /** Frozen capacity of each row, ascending; one block where there is none. */
  readonly capacities: readonly number[];
  readonly rng: Rng;
}

interface SimulatedSequence {
  regime: Regime;
  /** Its tokens are 0, 1, 2 ...; a drafted -1 is a wrong one. */
  length: number;
}

/**
 * A worker's steps without the models: calls take what they took when measured, drafts fare as a
 * regime says.
 */
export class DraftingWorld {
  readonly #options: WorldOptions;
  numTokens = 0;
  ms = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
  }

  /** Tokens per millisecond so far. */
  get rate(): number {
    return this.numTokens / this.ms;
  }

  /**
   * Runs sequences of 150 tokens, one after the other in each row.
   *
   * @param regimeOf what a sequence is like at some length
   */
  run(
    policy: DraftPolicy,
    { numRows, numSteps }: { readonly numRows: number; readonly numSteps: number },
    regimeOf: (sequence: { readonly serial: number; readonly length: number }) => Regime,
  ): void {
    let serial = 0;
    const sequences: (SimulatedSequence & { serial: number })[] = [];
    for (let step = 0; step < numSteps; step += 1) {
      for (let row = 0; row < numRows; row += 1) {
        let sequence = sequences[row];
        if (sequence === undefined || sequence.length >= 150) {
          sequence = { serial, length: 0, regime: regimeOf({ serial, length: 0 }) };
          serial += 1;
          sequences[row] = sequence;
        }
        sequence.regime = regimeOf(sequence);
      }
      this.step(policy, sequences);
    }
  }

  step(policy: DraftPolicy, sequences: readonly SimulatedSequence[]): void {
    const lookups = sequences.map((sequence) => this.#lookUp(sequence));
    const plans = policy.plan(
      sequences.map((sequence, i) => ({
        sequence,
        candidates: this.#candidates(sequence, lookups[i]!),
      })),
      { numOthers: 0, layOut: (lengths) => this.#layOut(lengths) },
    );
    const drafts = sequences.map((sequence, i) => {
      const plan = plans[i];
      if (!plan) return null;
      if (plan.proposer !== 'ngram') return this.#draft(policy, sequence, plan);
      const tokenIds = lookups[i]!.slice(0, plan.numTokens);
      return {
        ...plan,
        tokenIds,
        confidence: [],
        matchLength: sequence.regime.lookup!.matchLength,
      };
    });
    this.#payForDrafts(
      policy,
      drafts.filter((draft) => draft && draft.proposer !== 'ngram'),
    );
    this.#call(policy, drafts);
    for (const [i, sequence] of sequences.entries()) this.#verify(policy, sequence, drafts[i]!);
  }

  #candidates({ regime }: SimulatedSequence, tokenIds: readonly number[]): Candidate[] {
    const { proposers, maxDraft } = this.#options;
    const matchLength = regime.lookup?.matchLength ?? 0;
    return proposers
      .map((proposer) =>
        proposer === 'ngram'
          ? { proposer, maxTokens: tokenIds.length, matchLength, tokenIds }
          : { proposer, maxTokens: maxDraft, matchLength: 0 },
      )
      .filter(({ maxTokens }) => maxTokens > 0);
  }

  #lookUp({ regime: { lookup }, length }: SimulatedSequence): number[] {
    const { rng, maxDraft } = this.#options;
    if (lookup === undefined || rng() >= lookup.found) return [];
    let isRight = true;
    return Array.from({ length: maxDraft }, (_, i) => {
      isRight &&= rng() < lookup.acceptance;
      return isRight ? length + i : -1;
    });
  }

  #draft(
    policy: DraftPolicy,
    { regime, length }: SimulatedSequence,
    plan: { readonly proposer: ProposerName; readonly numTokens: number },
  ) {
    const { rng } = this.#options;
    const tokenIds: number[] = [];
    const confidence: number[] = [];
    let probability = 1;
    while (tokenIds.length < plan.numTokens) {
      const place = tokenIds.length;
      const mean = regime.draftAcceptance[Math.min(place, regime.draftAcceptance.length - 1)]!;
      // Sure of some tokens and unsure of others, and right about that.
      const isSure = rng() < Math.max(0, (mean - 0.3) / 0.68);
      const acceptance = mean <= 0.3 ? mean : isSure ? 0.98 : 0.3;
      tokenIds.push(rng() < acceptance ? length + place : -1);
      probability *= regime.claimed ?? acceptance;
      confidence.push(probability);
      if (!policy.goesOn(probability)) break;
    }
    return { ...plan, tokenIds, confidence, matchLength: 0 };
  }

  #payForDrafts(policy: DraftPolicy, drafts: readonly ({ tokenIds: number[] } | null)[]): void {
    const numRuns = Math.max(0, ...drafts.map((draft) => draft?.tokenIds.length ?? 0));
    if (numRuns === 0) return;
    const { format, draftCost } = this.#options;
    let ms = 0;
    for (let run = 0; run < numRuns; run += 1) {
      ms += draftCost * trueCallMs(format, drafts.length, 1) * this.#noise();
    }
    this.ms += ms;
    policy.observeDraft({ numRows: drafts.length, numRuns, ms });
  }

  /** Rows of one capacity are read together, as far as the engine would. */
  #layOut(lengths: readonly number[]): TargetCall[] {
    const capacityOf = (row: number) => this.#options.capacities[row] ?? BLOCK_SIZE;
    const capacities = [...new Set(lengths.map((_, row) => capacityOf(row)))];
    return capacities.flatMap((frozenCapacity) => {
      const rows = lengths.filter((_, row) => capacityOf(row) === frozenCapacity);
      const planned = rows.map((length) => ({ numTokens: 1 + length, tailLength: 0 }));
      return planCalls(planned).map(({ start, end, numNewTokens }) => {
        return { numRows: end - start, numNewTokens, frozenCapacity };
      });
    });
  }

  #call(policy: DraftPolicy, drafts: readonly ({ tokenIds: readonly number[] } | null)[]): void {
    for (const call of this.#layOut(drafts.map((draft) => draft?.tokenIds.length ?? 0))) {
      const ms = callMs(this.#options.format, call) * this.#noise();
      this.ms += ms;
      policy.observeCall({ ...call, ms });
    }
  }

  /** A few percent, and one call in a hundred takes twice as long. */
  #noise(): number {
    const { rng } = this.#options;
    const usual = 1 + 0.05 * (rng() + rng() + rng() - 1.5);
    return rng() < 0.01 ? 2 * usual : usual;
  }

  #verify(
    policy: DraftPolicy,
    sequence: SimulatedSequence,
    draft: {
      readonly proposer: ProposerName;
      readonly tokenIds: readonly number[];
      readonly confidence: readonly number[];
      readonly matchLength: number;
    } | null,
  ): void {
    const tokenIds = draft?.tokenIds ?? [];
    const wrong = tokenIds.indexOf(-1);
    const numAccepted = wrong === -1 ? tokenIds.length : wrong;
    if (draft !== null && tokenIds.length > 0) {
      const { proposer, matchLength, confidence } = draft;
      const numDrafted = tokenIds.length;
      const numCompared = Math.min(numDrafted, numAccepted + 1);
      const verified = { proposer, numDrafted, numCompared, numAccepted, matchLength };
      policy.observeVerified(sequence, verified);
      if (confidence.length > 0) policy.observeConfidence(confidence, numAccepted);
    }
    const taken = Array.from({ length: numAccepted + 1 }, (_, i) => sequence.length + i);
    policy.observeTaken(sequence, taken);
    sequence.length += taken.length;
    this.numTokens += taken.length;
  }
}
