import type { TokenId } from '../../shared/ids.ts';
import type { SideTokens } from '../speculative/lookahead-window.ts';
import type {
  CallCost,
  Candidate,
  DraftPlan,
  DraftPolicy,
  LayOut,
  PolicyRow,
  TargetCall,
} from '../speculative/policy.ts';
import { MAX_DRAFT_TOKENS, type Proposal, type ProposerName } from '../speculative/proposer.ts';
import type { Rest } from '../speculative/rest.ts';
import { Draftee, type LookupSources } from './draftee.ts';
import type { Drafter, DraftRequest } from './drafter.ts';
import type { Sequence } from './sequence.ts';
import type { StepOutput } from './step.ts';

export interface SpeculatorParts extends LookupSources {
  readonly policy: DraftPolicy;
  /** `null` without a draft model. */
  readonly drafter: Drafter | null;
  /** `null` never to rest. */
  readonly rest: Rest | null;
  /** Longest draft, at most `MAX_DRAFT_TOKENS`. */
  readonly maxDraftTokens: number;
  readonly now: () => number;
}

/** What a step has to say about itself to those who draft for it. */
export interface StepRoom {
  /** Draft tokens that the step has room for, over all sequences. */
  readonly maxTokens: number;
  /** Sequences that decode in the same step and are not drafted for. */
  readonly numOthers: number;
  /**
   * The calls of the step, by what sequences read in it: those that are proposed for, then the
   * others.
   */
  readonly layOut: (numTokens: readonly number[]) => readonly TargetCall[];
}

/** A step that is over. */
export interface StepTime {
  /** Sequences that decoded, and the tokens that they gained. */
  readonly numRows: number;
  readonly numTokens: number;
  readonly ms: number;
}

/** A sequence and what could be put forward for it. */
interface DraftedRow extends PolicyRow {
  readonly sequence: Sequence;
  readonly proposals: readonly Proposal[];
}

interface NamedRequest extends DraftRequest {
  readonly proposer: ProposerName;
}

/** Shortest match that is worth a proposal. */
const MIN_MATCH = 2;

/** Tokens of a draft model's draft, at most: what it costs grows with each. */
const MAX_MODEL_TOKENS = 8;

/**
 * Puts tokens forward for the target to verify in its next step, as its policy finds worth the
 * while.
 */
export class Speculator {
  readonly #parts: SpeculatorParts;
  readonly #drafteeBySequence = new Map<Sequence, Draftee>();
  /** Of the step that is being made. */
  #isPlain = false;
  #isDrafted = false;
  #proposingMs = 0;

  constructor(parts: SpeculatorParts) {
    this.#parts = parts;
  }

  /**
   * Whether it has a part in the next step, in which these sequences are about to read one token
   * each. Where it has none, it is to be told nothing but what the step took: thinking costs, even
   * of nothing.
   *
   * @param isMixed whether others read their prompts in that step
   */
  attends(sequences: readonly Sequence[], isMixed: boolean): boolean {
    this.#isDrafted = false;
    this.#proposingMs = 0;
    if (sequences.length === 0) return false;
    const isResting = this.#parts.rest?.isResting(sequences.length, isMixed) ?? false;
    return !isResting || sequences.some(isPredicted);
  }

  /** Proposes for sequences that are about to read one token. */
  async propose(sequences: readonly Sequence[], room: StepRoom): Promise<void> {
    const { rest, now } = this.#parts;
    const startMs = now();
    const numRows = sequences.length + room.numOthers;
    const isTiming = rest?.isTiming(numRows) ?? false;
    const isResting = rest?.isResting(numRows) ?? false;
    this.#isPlain = isTiming || isResting;
    if (!isTiming && sequences.length > 0) await this.#propose(sequences, room, isResting);
    this.#proposingMs = now() - startMs;
  }

  /** @param isResting whether none are drafted for but those who say what to expect */
  async #propose(
    sequences: readonly Sequence[],
    { maxTokens, numOthers, layOut }: StepRoom,
    isResting: boolean,
  ): Promise<void> {
    const rows = sequences.map((sequence) =>
      isResting && !isPredicted(sequence) ? undrafted(sequence) : this.#candidates(sequence),
    );
    const plans = this.#parts.policy.plan(rows, {
      numOthers,
      layOut: this.#withSideTokens(sequences, numOthers, layOut),
    });
    let numLeft = maxTokens;
    const requests: NamedRequest[] = [];
    for (const [i, { sequence, proposals }] of rows.entries()) {
      const plan = plans[i];
      const numTokens = Math.min(plan?.numTokens ?? 0, numLeft);
      if (!plan || numTokens === 0) continue;
      numLeft -= numTokens;
      const known = proposals.find(({ proposer }) => proposer === plan.proposer);
      if (known === undefined) requests.push(this.#toRequest(sequence, { ...plan, numTokens }));
      else this.#putForward(sequence, known, numTokens);
    }
    if (requests.length > 0) await this.#draft(requests);
  }

  /** The calls of a step by the lengths of drafts, with all that is read beside these. */
  #withSideTokens(
    sequences: readonly Sequence[],
    numOthers: number,
    layOut: StepRoom['layOut'],
  ): LayOut {
    const others = Array<number>(numOthers).fill(1);
    const known = sequences.map((): number[] => []); // tokens read, by length of the draft
    return (lengths) => {
      const numTokens = lengths.map((length, i) => {
        known[i]![length] ??= this.#numRead(sequences[i]!, 1 + length);
        return known[i]![length]!;
      });
      return layOut([...numTokens, ...others]);
    };
  }

  #numRead(sequence: Sequence, numTokens: number): number {
    return numTokens + (this.sideTokensFor(sequence, numTokens)?.tokenIds.length ?? 0);
  }

  #putForward(sequence: Sequence, proposal: Proposal, numTokens: number): void {
    const draftee = this.#drafteeOf(sequence);
    draftee.matchLength = proposal.matchLength;
    draftee.cumulativeProbabilities = [];
    this.#isDrafted = true;
    sequence.propose(proposal.proposer, proposal.tokenIds.slice(0, numTokens));
  }

  async #draft(requests: readonly NamedRequest[]): Promise<void> {
    const { drafter, policy, now } = this.#parts;
    if (drafter === null) return;
    const numUnread = Math.max(...requests.map(({ sequence }) => drafter.numUnread(sequence)));
    const startMs = now();
    const { drafts, numRuns } = await drafter.draft(requests);
    // Reading a prompt is not what drafting costs once it is read.
    if (numUnread <= MAX_DRAFT_TOKENS) {
      policy.observeDraft({ numRows: requests.length, numRuns, ms: now() - startMs });
    }
    for (const [i, { sequence, tokenIds, cumulativeProbabilities }] of drafts.entries()) {
      if (tokenIds.length === 0) continue;
      const draftee = this.#drafteeOf(sequence);
      draftee.matchLength = 0;
      draftee.cumulativeProbabilities = cumulativeProbabilities;
      this.#isDrafted = true;
      sequence.propose(requests[i]!.proposer, tokenIds);
    }
  }

  #toRequest(sequence: Sequence, { proposer, numTokens }: DraftPlan): NamedRequest {
    const { policy } = this.#parts;
    const draftee = this.#drafteeOf(sequence);
    const limits = { minMatch: MIN_MATCH, maxDraft: numTokens };
    const lookup = (drafted: readonly TokenId[]) => draftee.lookUpAfter(drafted, limits);
    return {
      sequence,
      proposer,
      maxTokens: numTokens,
      lookup: proposer === 'staged' ? lookup : null,
      goesOn: (probability) => policy.goesOn(probability),
    };
  }

  /**
   * What could be put forward for a sequence, lookups by their tokens, the draft model by its
   * length.
   */
  #candidates(sequence: Sequence): DraftedRow {
    // A draft ends with the target's chunk, and a token before the sequence's limit or its
    // context's.
    const room = Math.min(
      this.#parts.maxDraftTokens,
      sequence.roomInChunk - 1,
      sequence.context.room - 1,
      sequence.options.maxOutputTokens - sequence.numOutputTokens - 1,
    );
    if (room <= 0) return undrafted(sequence);
    const limits = { minMatch: MIN_MATCH, maxDraft: room };
    const proposals = this.#drafteeOf(sequence).propose(limits);
    const modelRoom = this.#parts.drafter?.roomFor(sequence) ?? 0;
    const maxTokens = Math.min(room, modelRoom, MAX_MODEL_TOKENS);
    const models = maxTokens === 0 ? [] : (['draft', 'staged'] as const);
    const drafted = models
      .filter((proposer) => this.#parts.proposers.has(proposer))
      .map((proposer) => ({ proposer, maxTokens, matchLength: 0 }));
    return { sequence, proposals, candidates: [...proposals.map(toCandidate), ...drafted] };
  }

  #drafteeOf(sequence: Sequence): Draftee {
    const known = this.#drafteeBySequence.get(sequence);
    if (known !== undefined) return known;
    const draftee = new Draftee(sequence, this.#parts);
    this.#drafteeBySequence.set(sequence, draftee);
    return draftee;
  }

  /** Tokens to be read beside those of a chunk; a step that is to be a plain one has none. */
  sideTokensFor(sequence: Sequence, numTokens: number): SideTokens | null {
    if (this.#isPlain) return null;
    return this.#drafteeBySequence.get(sequence)?.sideTokensFor(numTokens) ?? null;
  }

  /** @param nextTokenIds what the target chose after the side tokens that want it */
  takeSide(sequence: Sequence, nextTokenIds: readonly TokenId[], numTaken: number): void {
    this.#isDrafted = true;
    this.#drafteeBySequence.get(sequence)?.takeSide(nextTokenIds, numTaken);
  }

  /** Learns what the target made of a draft. */
  settle({ chunk: { sequence }, newTokenIds, verified }: StepOutput): void {
    const draftee = this.#drafteeBySequence.get(sequence);
    if (draftee === undefined) return;
    const { policy, drafter } = this.#parts;
    drafter?.settle(sequence);
    policy.observeTaken(sequence, draftee.takeNew());
    if (verified === null) return;
    const { matchLength, cumulativeProbabilities } = draftee;
    const { numDrafted, numAccepted } = verified;
    const numCompared = Math.min(numDrafted, newTokenIds.length);
    policy.observeVerified(sequence, { ...verified, matchLength, numCompared });
    if (cumulativeProbabilities.length === 0) return;
    // Behind a token that is wrong all drafts are; behind the sequence's end nobody knows.
    const numJudged = numCompared > numAccepted ? numDrafted : numAccepted;
    policy.observeConfidence(cumulativeProbabilities.slice(0, numJudged), numAccepted);
  }

  observeCall(cost: CallCost): void {
    this.#parts.policy.observeCall(cost);
  }

  /** Learns what a step took in which every sequence decoded. */
  observeStep(time: StepTime): void {
    const [isDrafted, proposingMs] = [this.#isDrafted, this.#proposingMs];
    this.#parts.rest?.observe({ ...time, isDrafted, proposingMs });
  }

  /**
   * Gives the draft model's row of a sequence to others, until it is drafted for again; then it
   * reads all anew.
   */
  suspend(sequence: Sequence): void {
    this.#parts.drafter?.remove(sequence);
  }

  /** Forgets a sequence; what it put out may be looked up by others of its tenant. */
  remove(sequence: Sequence): void {
    if (!this.#drafteeBySequence.delete(sequence)) return;
    this.#parts.drafter?.remove(sequence);
    const { tenant } = sequence.options;
    this.#parts.outputs?.add(tenant, sequence.context.outputTokenIds);
  }
}

function undrafted(sequence: Sequence): DraftedRow {
  return { sequence, proposals: [], candidates: [] };
}

function isPredicted({ options }: Sequence): boolean {
  return options.prediction.length > 0;
}

function toCandidate({ proposer, tokenIds, matchLength }: Proposal): Candidate {
  return { proposer, maxTokens: tokenIds.length, matchLength, tokenIds };
}
