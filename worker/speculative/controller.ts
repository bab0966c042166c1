import type { TokenId } from '../../shared/ids.ts';
import { AcceptanceModel, type SequenceAcceptance } from './acceptance.ts';
import { DraftThreshold } from './draft-threshold.ts';
import { LookupShadow } from './lookup-shadow.ts';
import { type SearchRow, type StepPlan, searchPlan } from './plan-search.ts';
import type {
  CallCost,
  Candidate,
  ComparedDraft,
  DraftCost,
  DraftPlan,
  DraftPolicy,
  PolicyRow,
  PolicyStep,
} from './policy.ts';
import { Prober, ProbeSchedule } from './probing.ts';
import type { ProposerName } from './proposer.ts';
import {
  isModel,
  type ModelProposer,
  StepCostModel,
  type StepCosts,
  wouldPay,
} from './step-costs.ts';

/** Acceptance that a draft model might have at best. */
const BEST_ACCEPTANCE = 0.9;

/** A draft of a sequence of which nothing is known. */
const ANY_DRAFT = { proposer: 'draft', matchLength: 0 } as const;

/** What is kept of a sequence. */
interface SequenceState {
  readonly acceptance: SequenceAcceptance;
  readonly shadow: LookupShadow;
  readonly schedule: ProbeSchedule;
  /** Of the draft that is being verified. */
  numPlanned: number;
  isProbe: boolean;
}

/** One row of a step, looked at. */
interface Row {
  readonly state: SequenceState;
  readonly lookups: readonly Candidate[];
  readonly search: SearchRow;
}

/**
 * Chooses proposer and length for each row so that a step gives the most tokens per millisecond,
 * from how drafts fared and what calls took; not to draft is one of the choices. What does not pay
 * is tried again ever more rarely, and all trials together within a small part of the time.
 *
 * The rule is that of Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative
 * Decoding", arXiv:2211.17192, section 3.5, with everything in it measured, and over all rows of a
 * batch at once.
 */
export class Controller implements DraftPolicy {
  readonly #acceptance = new AcceptanceModel();
  readonly #costs = new StepCostModel(this.#acceptance);
  readonly #threshold = new DraftThreshold();
  readonly #prober = new Prober();
  readonly #stateBySequence = new WeakMap<object, SequenceState>();
  #step = 0;
  /** The drafts that the draft model was asked for in this step. */
  #asked: { readonly proposer: ModelProposer; readonly maxLength: number } | null = null;

  plan(policyRows: readonly PolicyRow[], { numOthers, layOut }: PolicyStep): (DraftPlan | null)[] {
    this.#step += 1;
    this.#asked = null;
    if (!this.#costs.knows(layOut(policyRows.map(() => 0)))) return policyRows.map(() => null);

    const rows = policyRows.map((row) => this.#look(row));
    const candidates = policyRows.flatMap((row) => row.candidates);
    const numRows = rows.length;
    const costs = this.#costs.costsOf(candidates, { numRows, layOut, step: this.#step });
    const plan = searchPlan(
      rows.map(({ search }) => search),
      costs,
      numOthers,
    );
    const probes = this.#probe(rows, costs, plan);
    this.#price(costs, plan.tokens / plan.ms);
    const plans = rows.map((row, i) => {
      const { lookup, length } = plan.choices[i]!;
      if (probes[i]! > 0) return this.#draft(row, costs, { length: probes[i]!, isProbe: true });
      if (lookup !== null) return this.#lookUp(row, row.lookups[lookup]!, length);
      return this.#draft(row, costs, { length, isProbe: false });
    });
    const lengths = plans.map((each) => (each && isModel(each.proposer) ? each.numTokens : 0));
    const maxLength = Math.max(0, ...lengths);
    if (costs.drafter !== null) this.#asked = { proposer: costs.drafter, maxLength };
    return plans;
  }

  #look({ sequence, candidates }: PolicyRow): Row {
    const state = this.#stateOf(sequence);
    const lookups = candidates.filter(({ proposer }) => !isModel(proposer));
    const model = candidates.find(({ proposer }) => isModel(proposer));
    const expected = ({ proposer, matchLength, maxTokens }: Candidate) => {
      const draft = { proposer: learnedAs(proposer), matchLength };
      return this.#acceptance.expectedAccepted(draft, maxTokens, state.acceptance);
    };
    const drafted = model === undefined ? null : expected(model);
    return { state, lookups, search: { lookups: lookups.map(expected), drafted } };
  }

  /** @returns the length of each row's trial draft, 0 for none */
  #probe(rows: readonly Row[], costs: StepCosts, plan: StepPlan): readonly number[] {
    if (costs.drafter === null) return rows.map(() => 0);
    const { draft, plainMs, callsMs, maxLength } = costs;
    const probeRows = rows.map(({ state, search }, i) => {
      const { lookup, length } = plan.choices[i]!;
      const isDrafting = lookup === null && length > 0;
      // A row with a lookup to verify is not disturbed.
      const drafted = lookup === null ? search.drafted : null;
      return { schedule: state.schedule, drafted, isDrafting };
    });
    const planned = plan.choices.map(({ length }) => length);
    return this.#prober.choose(probeRows, {
      step: this.#step,
      plainMs,
      lossMs: (lengths, gained) => {
        const numProbed = lengths.filter((length) => length > 0).length;
        const probed = planned.map((length, i) => Math.max(length, lengths[i]!));
        const moreMs = callsMs(probed) - callsMs(planned);
        return (
          draft(Math.max(...lengths), numProbed).ms + moreMs - (gained * plan.ms) / plan.tokens
        );
      },
      mightPay: () => wouldPay(costs, atBest(maxLength)),
      usuallyPays: () =>
        wouldPay(costs, this.#acceptance.expectedAccepted(ANY_DRAFT, maxLength, null)),
    });
  }

  /**
   * Tells the threshold what a further token of one draft costs, and what an accepted one is worth.
   * Of many drafts each is charged a part: to end it spares little, as it waits for those that go
   * on. Which part was tried (decision 0014): over the square of the rows it gave more tokens for
   * its time than over the rows, or whole.
   */
  #price(costs: StepCosts, rate: number): void {
    const { numRows, drafter, maxLength, plainMs } = costs;
    if (drafter === null) return;
    const verifyMs = Math.max(0, costs.uniformMs(maxLength) - plainMs) / maxLength;
    this.#threshold.price({
      costMs: (costs.runMs(numRows) + verifyMs) / numRows ** 2,
      gainMs: 1 / rate,
      acceptance: this.#acceptance.expectedAccepted(ANY_DRAFT, 1, null)[1]!,
    });
  }

  #draft(
    { state, lookups }: Row,
    { drafter }: StepCosts,
    { length, isProbe }: { length: number; isProbe: boolean },
  ): DraftPlan | null {
    watch(state.shadow, lookups);
    state.isProbe = isProbe;
    state.numPlanned = length;
    return length === 0 || drafter === null ? null : { proposer: drafter, numTokens: length };
  }

  #lookUp({ state, lookups }: Row, { proposer }: Candidate, length: number): DraftPlan {
    watch(
      state.shadow,
      lookups.filter((each) => each.proposer !== proposer),
    );
    state.shadow.drop(proposer);
    state.isProbe = false;
    state.numPlanned = length;
    return { proposer, numTokens: length };
  }

  goesOn(cumulativeProbability: number): boolean {
    return this.#threshold.goesOn(cumulativeProbability);
  }

  observeCall(cost: CallCost): void {
    this.#prober.earn(cost.ms);
    this.#costs.observeCall(cost);
  }

  observeDraft(cost: DraftCost): void {
    this.#prober.earn(cost.ms);
    if (this.#asked !== null) this.#costs.observeDraft(cost, this.#asked);
  }

  observeVerified(sequence: object, draft: ComparedDraft): void {
    const state = this.#stateOf(sequence);
    const proposer = learnedAs(draft.proposer);
    const numPlanned = Math.max(state.numPlanned, draft.numDrafted);
    this.#acceptance.observe({ ...draft, proposer, numPlanned }, state.acceptance);
    if (!state.isProbe || draft.numAccepted === 0) return;
    state.schedule.succeed(this.#step);
    this.#prober.succeed(this.#step);
  }

  observeTaken(sequence: object, tokenIds: readonly TokenId[]): void {
    const { shadow, acceptance } = this.#stateOf(sequence);
    for (const outcome of shadow.take(tokenIds)) this.#acceptance.observe(outcome, acceptance);
  }

  observeConfidence(cumulativeProbabilities: readonly number[], numAccepted: number): void {
    this.#threshold.observe(cumulativeProbabilities, numAccepted);
  }

  #stateOf(sequence: object): SequenceState {
    let state = this.#stateBySequence.get(sequence);
    if (state === undefined) {
      state = {
        acceptance: new Map(),
        shadow: new LookupShadow(),
        schedule: new ProbeSchedule(),
        numPlanned: 0,
        isProbe: false,
      };
      this.#stateBySequence.set(sequence, state);
    }
    return state;
  }
}

/** Staged or not, it is the draft model that decides. */
function learnedAs(proposer: ProposerName): ProposerName {
  return isModel(proposer) ? 'draft' : proposer;
}

/** Accepted tokens by length, of a draft model at its best. */
function atBest(maxLength: number): Float64Array {
  const expected = new Float64Array(maxLength + 1);
  for (let length = 1; length <= maxLength; length += 1) {
    expected[length] = expected[length - 1]! + BEST_ACCEPTANCE ** length;
  }
  return expected;
}

function watch(shadow: LookupShadow, lookups: readonly Candidate[]): void {
  for (const { proposer, matchLength, tokenIds } of lookups) {
    if (tokenIds !== undefined) shadow.watch({ proposer, matchLength, tokenIds });
  }
}
