import { BLOCK_SIZE } from '../../shared/block-size.ts';
import type { TokenId } from '../../shared/ids.ts';
import { TAIL_CAPACITY } from '../cache/layout.ts';
import { Lookahead } from '../speculative/lookahead.ts';
import type { SideTokens } from '../speculative/lookahead-window.ts';
import { OutputCursor } from '../speculative/output-cursor.ts';
import type { OutputStore } from '../speculative/output-store.ts';
import { Prediction } from '../speculative/prediction.ts';
import type { LookupLimits, Proposal, ProposerName } from '../speculative/proposer.ts';
import { SuffixIndex } from '../speculative/suffix-index.ts';
import type { Sequence } from './sequence.ts';

export interface LookupSources {
  /** Proposers that may be used. */
  readonly proposers: ReadonlySet<ProposerName>;
  /** Recent outputs of all tenants; `null` to look up in the sequence's own tokens only. */
  readonly outputs: OutputStore | null;
}

/** Tokens that are taken in at once, after a rest: what came before is not looked up. */
const MAX_BEHIND = 128;

function isProposal(proposal: Proposal | null | undefined): proposal is Proposal {
  return proposal !== null && proposal !== undefined && proposal.tokenIds.length > 0;
}

/**
 * A sequence that tokens are drafted for: what it may go on with, by its own tokens and others'.
 */
export class Draftee {
  readonly #sequence: Sequence;
  readonly #sources: LookupSources;
  /** Of its own tokens; `null` where nobody looks them up. */
  #index: SuffixIndex | null;
  /** In its tenant's recent outputs. */
  readonly #cursor: OutputCursor | null;
  readonly #prediction: Prediction | null;
  readonly #lookahead: Lookahead | null;
  /** Tokens of the sequence that are known here, or were never looked at. */
  #numKnown: number;
  /** Tokens of the sequence that were there when it was last looked at. */
  #numSeen: number;
  /**
   * Of the draft that is being verified: the match it rests on, and the draft model's word for it.
   */
  matchLength = 0;
  cumulativeProbabilities: readonly number[] = [];

  constructor(sequence: Sequence, sources: LookupSources) {
    const { prediction, tenant } = sequence.options;
    this.#sequence = sequence;
    this.#numKnown = sequence.context.numForgotten;
    this.#numSeen = sequence.numTokens;
    this.#sources = sources;
    const { proposers, outputs } = sources;
    this.#cursor = outputs && proposers.has('suffix') ? new OutputCursor(outputs, tenant) : null;
    this.#index = proposers.has('ngram') || proposers.has('staged') ? new SuffixIndex() : null;
    const isPredicted = proposers.has('prediction') && prediction.length > 0;
    this.#prediction = isPredicted ? new Prediction(prediction) : null;
    this.#lookahead = proposers.has('lookahead') ? new Lookahead(sequence.tokenIds) : null;
  }

  /** What may follow, by every lookup that knows something. */
  propose(limits: LookupLimits): Proposal[] {
    this.#catchUp();
    const { proposers } = this.#sources;
    const { tokenIds, numTokens } = this.#sequence;
    const found = [
      this.#prediction?.propose(limits.maxDraft),
      proposers.has('ngram') ? this.#index?.propose(limits) : null,
      this.#cursor?.propose(tokenIds, numTokens, limits),
      this.#lookahead?.propose(tokenIds.at(-1)!, limits.maxDraft),
    ];
    return found.filter(isProposal);
  }

  /** What may follow the sequence and these drafted tokens, by its own past. */
  lookUpAfter(drafted: readonly TokenId[], limits: LookupLimits): readonly TokenId[] {
    this.#catchUp();
    const cursor = this.#index?.cursor();
    for (const tokenId of drafted) cursor?.advance(tokenId);
    return cursor?.propose(limits)?.tokenIds ?? [];
  }

  /**
   * Tokens to be read beside those of a chunk, for lookahead's sake, if the row has columns for
   * their keys and there are such positions.
   */
  sideTokensFor(numTokens: number): SideTokens | null {
    const { isDecoding, canSpeculate, numPromptTokens, numComputedTokens } = this.#sequence;
    if (this.#lookahead === null || !isDecoding || !canSpeculate) return null;
    const { options, context } = this.#sequence;
    const side = this.#lookahead.sideTokens();
    // Where the sequence must end, the model's positions may end too; and behind the window, they
    // see too much.
    const numPositions = Math.min(
      numPromptTokens + options.maxOutputTokens,
      context.numDenseTokens,
    );
    if (side.offsets.some((offset) => numComputedTokens + offset >= numPositions)) return null;
    const numColumns = (numComputedTokens % BLOCK_SIZE) + numTokens;
    return numColumns + side.tokenIds.length <= TAIL_CAPACITY ? side : null;
  }

  /** @param nextTokenIds what the target chose after the side tokens that want it */
  takeSide(nextTokenIds: readonly TokenId[], numTaken: number): void {
    this.#lookahead?.take(nextTokenIds, numTaken);
  }

  /** @returns what the sequence gained since the last call */
  takeNew(): readonly TokenId[] {
    const { tokenIds, numTokens } = this.#sequence;
    const numNew = numTokens - this.#numSeen;
    const newTokenIds = tokenIds.slice(Math.max(0, tokenIds.length - numNew));
    this.#numSeen = numTokens;
    return newTokenIds;
  }

  #catchUp(): void {
    const { tokenIds, numTokens, numPromptTokens, context } = this.#sequence;
    const numMissed = context.numForgotten - this.#numKnown;
    if (numMissed > 0 || (numMissed < 0 && numTokens - this.#numKnown > MAX_BEHIND)) {
      this.#index &&= new SuffixIndex();
      this.#numKnown = Math.max(numTokens - MAX_BEHIND, context.numForgotten);
    }
    for (; this.#numKnown < numTokens; this.#numKnown += 1) {
      const tokenId = tokenIds[this.#numKnown - context.numForgotten]!;
      this.#index?.add(tokenId);
      if (this.#numKnown >= numPromptTokens) this.#prediction?.add(tokenId);
    }
  }
}
