import { invariant } from '../../shared/assert.ts';
import type { RequestId, TenantId, TokenId } from '../../shared/ids.ts';
import type { FinishReason } from '../../shared/protocol/event.ts';
import type { ContextPolicy, JobClass, SamplingParams } from '../../shared/protocol/job.ts';
import { roomInChunk } from '../cache/columns.ts';
import type { CacheRow } from '../cache/row.ts';
import type { TokenHistory } from '../sampling/history.ts';
import type { ProposerName } from '../speculative/proposer.ts';
import { DraftTally } from '../speculative/tally.ts';
import { Context } from './context.ts';
import type { OutputText } from './output-text.ts';

export interface SequenceOptions {
  readonly requestId: RequestId;
  readonly tenant: TenantId;
  /** Which of the request's choices this is. */
  readonly choice: number;
  readonly priority: number;
  /** `batch` gives its row to `interactive` whenever one lacks it. */
  readonly class: JobClass;
  /** Whether it gives its row to others by turns, since it may never end. */
  readonly isUnbounded: boolean;
  /** Whether somebody may read it as it grows: not the lines of a batch, which sit steps out. */
  readonly isStream: boolean;
  readonly promptTokenIds: readonly TokenId[];
  /** Output tokens that an earlier claim of the request has published. */
  readonly publishedTokenIds: readonly TokenId[];
  /** Output tokens before them that nobody remembers. */
  readonly numTrimmed: number;
  /** Whether an earlier claim has published its end. */
  readonly isOver?: boolean;
  readonly contextPolicy: ContextPolicy;
  readonly sampling: SamplingParams;
  /** Whether tokens may be drafted for it. */
  readonly canSpeculate: boolean;
  /** Output that the client predicted. */
  readonly prediction: readonly TokenId[];
  /** Output tokens after which it ends, `Infinity` for none but the context's limit. */
  readonly maxOutputTokens: number;
  /** Output tokens before which none of `endTokenIds` is chosen. */
  readonly minOutputTokens: number;
  /** Tokens that end it: the model's own, and those that the client names. */
  readonly endTokenIds: ReadonlySet<TokenId>;
  readonly topLogprobs: number | null;
  /** Whether the log-probabilities of the prompt's own tokens are wanted. */
  readonly wantsPromptLogprobs: boolean;
  readonly text: OutputText;
}

/**
 * One choice of a request inside the engine: its tokens, and how far the model has got with them.
 */
export class Sequence {
  readonly options: SequenceOptions;
  readonly numPromptTokens: number;
  /** Its tokens, as far as they matter to what follows. */
  readonly context: Context;
  /** Proposed and not yet verified; they follow `tokenIds`. */
  draftTokenIds: readonly TokenId[] = [];
  /** Who proposed them; `null` while there are none. */
  proposer: ProposerName | null = null;
  /** What was drafted for it and what was kept. */
  readonly tally = new DraftTally();
  /** Whether tokens may be drafted for it. */
  canSpeculate: boolean;
  /** Its place in the cache while it runs. */
  row: CacheRow | null = null;
  /** What it had there, kept while it waits. */
  parkedRow: CacheRow | null = null;
  finishReason: FinishReason | null = null;
  /** Whether it is not to be read, though it may have a row. */
  isHeld = false;
  /** Since when it has waited for a row, by the scheduler's clock; `null` where nobody looks. */
  waitingSinceMs: number | null = null;
  /** Whether it has waited for so long that it is served as interactive ones are. */
  isOverdue = false;
  /** Prompt tokens whose keys and values were copied from others. */
  numCachedTokens = 0;
  /** Leading tokens that were in a row of its own before it lost that. */
  #numOnceComputed = 0;
  /** Output tokens it had when its turn in a row began. */
  turnStart: number;
  /** With which no token that ends it is ever drawn. */
  readonly #endlessSampling: SamplingParams;
  /** Tokens that it had to read before its turn. */
  numTurnTokensRead = 0;

  constructor(options: SequenceOptions) {
    const { promptTokenIds, sampling, endTokenIds } = options;
    this.options = options;
    const bans = Array.from(endTokenIds, (tokenId): [TokenId, number] => [tokenId, -Infinity]);
    this.#endlessSampling = { ...sampling, logitBias: [...sampling.logitBias, ...bans] };
    this.canSpeculate = options.canSpeculate;
    this.numPromptTokens = promptTokenIds.length;
    this.context = new Context(options);
    this.turnStart = this.numOutputTokens;
  }

  get requestId(): RequestId {
    return this.options.requestId;
  }

  /** Prompt tokens, then accepted output tokens, without those that its context has forgotten. */
  get tokenIds(): readonly TokenId[] {
    return this.context.tokenIds;
  }

  /** All prompt tokens and accepted output tokens there ever were. */
  get numTokens(): number {
    return this.tokenIds.length + this.context.numForgotten;
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** Whether rows and steps are its before those of class `batch`. */
  get isInteractive(): boolean {
    return this.options.class === 'interactive' || this.isOverdue;
  }

  /** How the token at a position is drawn: while it is too early for the end, none is. */
  samplingAt(position: number): SamplingParams {
    const { sampling, minOutputTokens } = this.options;
    return position - this.numPromptTokens < minOutputTokens ? this.#endlessSampling : sampling;
  }

  get history(): TokenHistory {
    return this.context.history;
  }

  /** Leading tokens whose keys and values are in the cache. */
  get numComputedTokens(): number {
    return this.row?.numTokens ?? 0;
  }

  /** Tokens the model has still to read: 1 in plain decode, more in prefill or with a draft. */
  get numPendingTokens(): number {
    return this.tokenIds.length + this.draftTokenIds.length - this.numComputedTokens;
  }

  /**
   * Tokens that the next chunk may have: those until the block that is being filled is full, at
   * most.
   */
  get roomInChunk(): number {
    return roomInChunk(this.numComputedTokens, this.context.sinkWindow);
  }

  /** Whether all but the newest token have been read, so that the next step gives a token. */
  get isDecoding(): boolean {
    return this.numComputedTokens === this.tokenIds.length - 1;
  }

  /** The pending tokens that a chunk of `numTokens` reads. */
  pendingTokenIds(numTokens: number): TokenId[] {
    const start = this.numComputedTokens;
    const known = this.tokenIds.slice(start, start + numTokens);
    return [...known, ...this.draftTokenIds.slice(0, numTokens - known.length)];
  }

  /** Puts tokens forward, to be verified in the next step. */
  propose(proposer: ProposerName, tokenIds: readonly TokenId[]): void {
    invariant(this.isDecoding, 'a draft follows a sequence that was read');
    this.proposer = proposer;
    this.draftTokenIds = tokenIds;
  }

  /** Drops what is drafted from the first token on that the target does not know. */
  cutDraft(vocabSize: number): void {
    const unknown = this.draftTokenIds.findIndex((tokenId) => tokenId >= vocabSize);
    if (unknown === 0) this.dropDraft();
    else if (unknown > 0) this.draftTokenIds = this.draftTokenIds.slice(0, unknown);
  }

  dropDraft(): void {
    this.proposer = null;
    this.draftTokenIds = [];
  }

  /** Drafts nothing for it from now on. */
  forgoDrafts(): void {
    this.dropDraft();
    this.canSpeculate = false;
  }

  /** Gives its row away; what was computed there may be copied back and is none of others. */
  leaveRow(isParked: boolean): void {
    this.#numOnceComputed = Math.max(this.#numOnceComputed, this.numComputedTokens);
    this.parkedRow = isParked ? this.row : null;
    this.row = null;
  }

  /** Takes a row: an empty one, or its own again. */
  takeRow(row: CacheRow): void {
    this.row = row;
    this.parkedRow = null;
    this.waitingSinceMs = null;
    this.numTurnTokensRead = this.tokenIds.length - row.numTokens;
  }

  /** Takes note that the tokens from `start` to `end` were copied into its row. */
  addCopied(start: number, end: number): void {
    const first = Math.max(start, this.#numOnceComputed);
    this.numCachedTokens += Math.max(0, Math.min(end, this.numPromptTokens) - first);
  }

  /** Adds a token that the target chose. */
  accept(tokenId: TokenId): void {
    invariant(this.finishReason === null, 'a finished sequence takes no token');
    this.context.push(tokenId);
  }
}
