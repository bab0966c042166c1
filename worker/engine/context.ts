import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';
import { contextTokens, renewalTokens, type SinkPolicy } from '../../shared/protocol/endless.ts';
import type { ContextPolicy } from '../../shared/protocol/job.ts';
import type { SinkWindow } from '../cache/columns.ts';
import { TokenHistory } from '../sampling/history.ts';

export interface ContextOptions {
  readonly promptTokenIds: readonly TokenId[];
  readonly publishedTokenIds: readonly TokenId[];
  /** Output tokens before the published ones that nobody remembers. */
  readonly numTrimmed: number;
  /** Nothing follows, so that of its output only the count matters. */
  readonly isOver?: boolean;
  readonly contextPolicy: ContextPolicy;
}

/**
 * The tokens of a sequence that what follows depends on. Under `stop`, all. Under `sinks`, the
 * first and the latest: a context fills until the window has slid by eight of itself, and is then
 * begun anew with the sinks and the last window, which the model reads again like a prompt. So what
 * follows is a function of no more tokens than one context holds, whoever computes it, and the
 * memory of a sequence is constant.
 *
 * What penalties count is what attention sees: everything at first, then the sinks and the window.
 */
export class Context {
  readonly tokenIds: TokenId[];
  readonly history: TokenHistory;
  /** `null` where nothing is ever forgotten. */
  readonly sinkWindow: SinkWindow | null;
  /** Tokens between the sinks and those that follow them here. */
  numForgotten = 0;
  readonly #policy: SinkPolicy | null;
  readonly #numPromptTokens: number;

  constructor({ promptTokenIds, contextPolicy, ...published }: ContextOptions) {
    const { publishedTokenIds, numTrimmed, isOver = false } = published;
    this.#numPromptTokens = promptTokenIds.length;
    this.#policy =
      contextPolicy.type === 'stop' ? null : withSinksOf(contextPolicy, promptTokenIds);
    this.sinkWindow = this.#policy && toSinkWindow(this.#policy);
    if (isOver) {
      this.tokenIds = [...promptTokenIds];
      this.numForgotten = numTrimmed + publishedTokenIds.length;
      this.history = new TokenHistory([]);
      return;
    }
    const numTokens = promptTokenIds.length + numTrimmed + publishedTokenIds.length;
    this.numForgotten = this.#numForgottenOf(numTokens);
    const numSinks = this.sinkWindow?.numSinks ?? 0;
    const start = numSinks + this.numForgotten;
    const firstPublished = promptTokenIds.length + numTrimmed;
    invariant(numTrimmed === 0 || start >= firstPublished, 'the log lacks tokens of the context');
    this.tokenIds = [
      ...promptTokenIds.slice(0, numSinks),
      ...promptTokenIds.slice(start),
      ...publishedTokenIds.slice(Math.max(0, start - firstPublished)),
    ];
    this.history = this.#createHistory();
  }

  /** Tokens until it is begun anew. */
  get room(): number {
    return this.#policy === null ? Infinity : contextTokens(this.#policy) - this.tokenIds.length;
  }

  /** Leading tokens that see all before them. */
  get numDenseTokens(): number {
    return this.sinkWindow === null
      ? Infinity
      : this.sinkWindow.numSinks + this.sinkWindow.windowSize;
  }

  /** Output tokens that are still here. */
  get outputTokenIds(): TokenId[] {
    return this.tokenIds.filter((_, i) => !this.#isPrompt(i));
  }

  push(tokenId: TokenId): void {
    invariant(this.room > 0, 'a context that is full');
    this.tokenIds.push(tokenId);
    this.history.add(tokenId);
    if (this.tokenIds.length <= this.numDenseTokens) return;
    const left = this.tokenIds.length - 1 - this.sinkWindow!.windowSize;
    if (this.#isPrompt(left)) this.history.removePrompt(this.tokenIds[left]!);
    else this.history.remove(this.tokenIds[left]!);
  }

  /** Begins anew with the sinks and the last window. */
  renew(): void {
    invariant(this.#policy !== null && this.room === 0, 'a context that is not full');
    const numLeft = renewalTokens(this.#policy);
    this.tokenIds.splice(this.#policy.sinkTokens, numLeft);
    this.numForgotten += numLeft;
  }

  /**
   * What a context has forgotten when there are so many tokens in all: it depends on nothing else.
   */
  #numForgottenOf(numTokens: number): number {
    if (this.#policy === null || numTokens < contextTokens(this.#policy)) return 0;
    const perRenewal = renewalTokens(this.#policy);
    return (Math.floor((numTokens - contextTokens(this.#policy)) / perRenewal) + 1) * perRenewal;
  }

  /** Whether the token at an index of this context is one of the prompt's. */
  #isPrompt(index: number): boolean {
    const numSinks = this.sinkWindow?.numSinks ?? 0;
    const numBefore = index < numSinks ? 0 : this.numForgotten;
    return index + numBefore < this.#numPromptTokens;
  }

  #createHistory(): TokenHistory {
    const { length } = this.tokenIds;
    const { numSinks, windowSize } = this.sinkWindow ?? { numSinks: 0, windowSize: Infinity };
    const isSeen = (index: number) =>
      index < numSinks || index >= length - windowSize || length <= numSinks + windowSize;
    const seen = [...this.tokenIds.keys()].filter(isSeen);
    const prompt = seen.filter((index) => this.#isPrompt(index));
    const history = new TokenHistory(prompt.map((index) => this.tokenIds[index]!));
    for (const index of seen) if (!this.#isPrompt(index)) history.add(this.tokenIds[index]!);
    return history;
  }
}

/** Sinks are tokens of the prompt, so that none is ever lost with the log's begin. */
function withSinksOf(policy: SinkPolicy, promptTokenIds: readonly TokenId[]): SinkPolicy {
  return { ...policy, sinkTokens: Math.min(policy.sinkTokens, promptTokenIds.length) };
}

function toSinkWindow({ sinkTokens, windowTokens }: SinkPolicy): SinkWindow {
  return { numSinks: sinkTokens, windowSize: windowTokens };
}
