import type { TokenId } from '../../shared/ids.ts';
import { BLOCK_SIZE, MAX_PADDING } from '../cache/layout.ts';
import type { OutputStore } from '../speculative/output-store.ts';
import type { Candidate, DraftPlan, DraftPolicy } from '../speculative/policy.ts';
import type { Proposal, ProposerName } from '../speculative/proposer.ts';
import { SuffixIndex } from '../speculative/suffix-index.ts';
import type { Drafter, DraftRequest } from './drafter.ts';
import type { Sequence } from './sequence.ts';
import type { StepOutput } from './step.ts';

export interface SpeculatorParts {
  readonly policy: DraftPolicy;
  /** `null` without a draft model. */
  readonly drafter: Drafter | null;
  /** Recent outputs of all tenants; `null` to look up in the sequence's own tokens only. */
  readonly outputs: OutputStore | null;
  /** Proposers that may be used. */
  readonly proposers: ReadonlySet<ProposerName>;
  /** Longest draft, at most `MAX_PADDING`. */
  readonly maxDraftTokens: number;
  readonly now: () => number;
}

/** Shortest match that is worth a proposal. */
const MIN_MATCH = 2;
/** Latest tokens by which recent outputs are searched. */
const NUM_RECENT = 24;

/** What is known of a sequence that tokens are drafted for. */
interface Draftee {
  readonly index: SuffixIndex;
  /** Tokens of the sequence that the index knows. */
  numIndexed: number;
  matchLength: number;
}

/** Puts tokens forward for the target to verify in its next step, as its policy finds worth the while. */
export class Speculator {
  readonly #parts: SpeculatorParts;
  readonly #drafteeBySequence = new Map<Sequence, Draftee>();

  constructor(parts: SpeculatorParts) {
    this.#parts = parts;
  }

  /**
   * Proposes for sequences that are about to read one token.
   *
   * @param maxTokens draft tokens that the step has room for, over all sequences
   */
  async propose(sequences: readonly Sequence[], maxTokens: number): Promise<void> {
    const rows = sequences.map((sequence) => this.#candidates(sequence));
    const plans = this.#parts.policy.plan(
      rows.map(({ sequence, proposals, drafted }) => ({
        sequence,
        candidates: [...proposals.map(toCandidate), ...drafted],
      })),
    );
    let numLeft = maxTokens;
    const requests: (DraftRequest & { readonly proposer: ProposerName })[] = [];
    for (const [i, { sequence, proposals }] of rows.entries()) {
      const plan = plans[i];
      if (!plan) continue;
      const numTokens = Math.min(plan.numTokens, numLeft);
      if (numTokens === 0) continue;
      numLeft -= numTokens;
      const known = proposals.find(({ proposer }) => proposer === plan.proposer);
      if (known === undefined) requests.push(this.#toRequest(sequence, { ...plan, numTokens }));
      else this.#putForward(sequence, known, numTokens);
    }
    if (requests.length > 0) await this.#draft(requests);
  }

  #putForward(sequence: Sequence, proposal: Proposal, numTokens: number): void {
    this.#drafteeOf(sequence).matchLength = proposal.matchLength;
    sequence.propose(proposal.proposer, proposal.tokenIds.slice(0, numTokens));
  }

  async #draft(
    requests: readonly (DraftRequest & { readonly proposer: ProposerName })[],
  ): Promise<void> {
    const { drafter, policy, now } = this.#parts;
    if (drafter === null) return;
    const numUnread = requests.map(({ sequence }) => drafter.numUnread(sequence));
    const startMs = now();
    const { drafts, numRuns } = await drafter.draft(requests);
    // Reading a prompt is not what drafting costs once it is read.
    if (Math.max(...numUnread) <= MAX_PADDING) {
      policy.observeDraft({ numRows: requests.length, numRuns, ms: now() - startMs });
    }
    for (const [i, { sequence, tokenIds }] of drafts.entries()) {
      this.#drafteeOf(sequence).matchLength = 0;
      if (tokenIds.length > 0) sequence.propose(requests[i]!.proposer, tokenIds);
    }
  }

  #toRequest(sequence: Sequence, { proposer, numTokens }: DraftPlan) {
    const { index } = this.#drafteeOf(sequence);
    const { policy } = this.#parts;
    const lookup = (drafted: readonly TokenId[]) => {
      const cursor = index.cursor();
      for (const tokenId of drafted) cursor.advance(tokenId);
      return cursor.propose({ minMatch: MIN_MATCH, maxDraft: numTokens })?.tokenIds ?? [];
    };
    return {
      sequence,
      proposer,
      maxTokens: numTokens,
      lookup: proposer === 'staged' ? lookup : null,
      goesOn: (probability: number) => policy.goesOn(probability),
    };
  }

  /** What could be put forward for a sequence, lookups by their tokens, the draft model by its length. */
  #candidates(sequence: Sequence): {
    readonly sequence: Sequence;
    readonly proposals: readonly Proposal[];
    readonly drafted: readonly Candidate[];
  } {
    // A draft ends with the block that the target fills, and a token before the sequence's limit.
    const room = Math.min(
      this.#parts.maxDraftTokens,
      BLOCK_SIZE - (sequence.numComputedTokens % BLOCK_SIZE) - 1,
      sequence.options.maxOutputTokens - sequence.numOutputTokens - 1,
    );
    if (room <= 0) return { sequence, proposals: [], drafted: [] };
    const proposals = this.#lookUp(sequence, room).filter(({ tokenIds }) => tokenIds.length > 0);
    const names = this.#parts.drafter === null ? [] : (['draft', 'staged'] as const);
    const drafted = names
      .filter((proposer) => this.#parts.proposers.has(proposer))
      .map((proposer) => ({ proposer, maxTokens: room, matchLength: 0 }));
    return { sequence, proposals, drafted };
  }

  #lookUp(sequence: Sequence, maxDraft: number): Proposal[] {
    const { proposers, outputs } = this.#parts;
    const { index } = this.#drafteeOf(sequence);
    const limits = { minMatch: MIN_MATCH, maxDraft };
    const found: (Proposal | null)[] = [];
    if (proposers.has('ngram')) found.push(index.propose(limits));
    if (proposers.has('suffix') && outputs !== null) {
      const recent = sequence.tokenIds.slice(-NUM_RECENT);
      found.push(outputs.propose(sequence.options.tenant, recent, limits));
    }
    return found.filter((proposal) => proposal !== null);
  }

  /** The index comes up to date with the sequence. */
  #drafteeOf(sequence: Sequence): Draftee {
    let draftee = this.#drafteeBySequence.get(sequence);
    if (draftee === undefined) {
      draftee = { index: new SuffixIndex(), numIndexed: 0, matchLength: 0 };
      this.#drafteeBySequence.set(sequence, draftee);
    }
    for (; draftee.numIndexed < sequence.tokenIds.length; draftee.numIndexed += 1) {
      draftee.index.add(sequence.tokenIds[draftee.numIndexed]!);
    }
    return draftee;
  }

  /** Learns what the target made of a draft. */
  settle({ chunk: { sequence }, verified }: StepOutput): void {
    const draftee = this.#drafteeBySequence.get(sequence);
    if (draftee === undefined) return;
    this.#parts.drafter?.settle(sequence);
    if (verified === null) return;
    const { matchLength } = draftee;
    this.#parts.policy.observeVerified(sequence, { ...verified, matchLength });
  }

  observeCall(cost: Parameters<DraftPolicy['observeCall']>[0]): void {
    this.#parts.policy.observeCall(cost);
  }

  /** Forgets a sequence; what it put out may be looked up by others of its tenant. */
  remove(sequence: Sequence): void {
    if (!this.#drafteeBySequence.delete(sequence)) return;
    this.#parts.drafter?.remove(sequence);
    const { tenant } = sequence.options;
    this.#parts.outputs?.add(tenant, sequence.tokenIds.slice(sequence.numPromptTokens));
  }
}

function toCandidate({ proposer, tokenIds, matchLength }: Proposal): Candidate {
  return { proposer, maxTokens: tokenIds.length, matchLength };
}
