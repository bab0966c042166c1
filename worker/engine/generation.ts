import type { RequestId, TokenId } from '../../shared/ids.ts';
import type {
  ErrorEvent,
  FinishReason,
  ProposerStats,
  TokenLogprobs,
} from '../../shared/protocol/event.ts';
import type { GenerationEvent, PublishedChoice } from '../../shared/protocol/generation.ts';
import { choiceSeed, isUnbounded, type Job, numChoices } from '../../shared/protocol/job.ts';
import { DraftTally } from '../speculative/tally.ts';
import { type EchoContext, toEcho } from './echo.ts';
import { OutputText } from './output-text.ts';
import { Sequence } from './sequence.ts';
import type { StepOutput } from './step.ts';
import { finishReasonAfter } from './token-selector.ts';

export interface GenerationContext extends EchoContext {
  readonly eosTokenIds: readonly TokenId[];
  readonly maxSequenceTokens: number;
  readonly now: () => number;
}

export type GenerationFault = Pick<ErrorEvent, 'code' | 'message' | 'param'>;

/** A request inside the engine: one sequence for each choice, and what is to be said of them. */
export class Generation {
  readonly id: RequestId;
  readonly sequences: readonly Sequence[]; // [numChoices]
  readonly #job: Job;
  readonly #context: GenerationContext;
  /** Of sequences whose echo waits for the rest of theirs. */
  readonly #promptLogprobs = new Map<Sequence, TokenLogprobs[]>();
  /** Sequences whose last event has not been said. */
  readonly #open = new Set<Sequence>();
  readonly #startedMs: number;
  #isDue = false;
  #promptReadMs: number | null = null;
  #events: GenerationEvent[] = [];
  #hasEnded = false;

  constructor(job: Job, published: readonly PublishedChoice[], context: GenerationContext) {
    this.id = job.id;
    this.#job = job;
    this.#context = context;
    this.#startedMs = context.now();
    this.sequences = Array.from({ length: numChoices(job) }, (_, choice) =>
      this.#createSequence(choice, published[choice]!),
    );
    for (const [choice, sequence] of this.sequences.entries()) {
      const { hasEcho } = published[choice]!;
      const isEchoDue = job.echo && !hasEcho && !sequence.options.wantsPromptLogprobs;
      if (isEchoDue) this.#sayEcho(sequence, null);
      this.#resume(sequence, published[choice]!);
    }
    this.#endIfDone();
  }

  #createSequence(choice: number, published: PublishedChoice): Sequence {
    const { prompts, n, sampling, topLogprobs, echo, contextPolicy } = this.#job;
    const promptTokenIds = prompts[Math.floor(choice / n)]!;
    return new Sequence({
      requestId: this.id,
      tenant: this.#job.tenant,
      choice,
      priority: this.#job.priority,
      class: isUnbounded(this.#job) ? 'batch' : (this.#job.class ?? 'interactive'),
      isUnbounded: isUnbounded(this.#job),
      isStream: this.#job.class !== 'batch',
      promptTokenIds,
      publishedTokenIds: published.tokenIds,
      numTrimmed: published.numTrimmed ?? 0,
      isOver: published.finishReason !== null,
      contextPolicy,
      sampling: { ...sampling, seed: choiceSeed(sampling.seed, choice % n) },
      canSpeculate: this.#job.speculation === 'auto',
      prediction: this.#job.prediction ?? [],
      maxOutputTokens: this.#maxOutputTokens(promptTokenIds),
      minOutputTokens: this.#job.minTokens ?? 0,
      endTokenIds: this.#endTokenIds,
      topLogprobs,
      wantsPromptLogprobs: echo && topLogprobs !== null && !published.hasEcho,
      text: this.#createText(published),
    });
  }

  get #endTokenIds(): ReadonlySet<TokenId> {
    const { ignoreEos, stopTokenIds = [] } = this.#job;
    return new Set([...(ignoreEos ? [] : this.#context.eosTokenIds), ...stopTokenIds]);
  }

  /** Of tokens that end it, it shows nothing. */
  #createText({ numTrimmed = 0 }: PublishedChoice): OutputText {
    const { stop, minTokens = 0 } = this.#job;
    const endTokenIds = this.#endTokenIds;
    const tokenBytes = (tokenId: TokenId) =>
      endTokenIds.has(tokenId) ? null : this.#context.tokenBytes(tokenId);
    return new OutputText(tokenBytes, stop, minTokens - numTrimmed);
  }

  #maxOutputTokens(promptTokenIds: readonly TokenId[]): number {
    const { maxTokens, contextPolicy } = this.#job;
    const { maxSequenceTokens } = this.#context;
    const isEndless = contextPolicy.type === 'sinks';
    const room = isEndless ? Infinity : maxSequenceTokens - promptTokenIds.length;
    return Math.min(maxTokens ?? Infinity, room);
  }

  /** Brings a sequence to where its published tokens leave it, which may be its end. */
  #resume(sequence: Sequence, published: PublishedChoice): void {
    const { text, maxOutputTokens, wantsPromptLogprobs } = sequence.options;
    let shown = '';
    let isStopped = false;
    for (const tokenId of published.tokenIds) {
      const result = text.push(tokenId);
      shown += result.text;
      isStopped = result.isStopped;
    }
    sequence.finishReason = published.finishReason;
    if (sequence.finishReason !== null) return;

    this.#open.add(sequence);
    if (wantsPromptLogprobs) this.#promptLogprobs.set(sequence, []);
    const last = published.tokenIds.at(-1);
    if (last !== undefined) {
      sequence.finishReason = finishReasonAfter(sequence, last, isStopped);
    } else if (maxOutputTokens <= 0 && !wantsPromptLogprobs) {
      sequence.finishReason = 'length';
    }
    if (sequence.finishReason === null) return;
    const numShown = shown.length;
    if (!isStopped) shown += text.flush().text;
    // Tokens and their text are said together, so what a trimmed log lacks of either is said.
    const numSaid = published.numTrimmed ? numShown : published.textLength;
    this.#sayTokens(sequence, [], shown.slice(numSaid), []);
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Lets none of it be read until it is told to proceed. */
  hold(): void {
    for (const sequence of this.sequences) sequence.isHeld = true;
  }

  /** Says once that it could be read now. */
  sayDue(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.#events.push({ type: 'due' });
  }

  proceed(): void {
    for (const sequence of this.sequences) sequence.isHeld = false;
  }

  /** Takes in what a step gave one of the sequences. */
  add(output: StepOutput): void {
    const { sequence } = output.chunk;
    this.#addPromptLogprobs(sequence, output.promptLogprobs);
    if (output.verified !== null) sequence.tally.add(output.verified);
    if (output.newTokenIds.length > 0) {
      this.#promptReadMs ??= this.#context.now();
      this.#sayTokens(sequence, output.newTokenIds, output.text, output.logprobs);
    }
    this.#endIfDone();
  }

  /** Takes note that a sequence will read again what it has read. */
  addRowLost(sequence: Sequence): void {
    this.#promptLogprobs.get(sequence)?.splice(0);
  }

  #addPromptLogprobs(sequence: Sequence, logprobs: readonly TokenLogprobs[]): void {
    const known = this.#promptLogprobs.get(sequence);
    if (known === undefined) return;
    known.push(...logprobs);
    if (known.length < sequence.numPromptTokens - 1) return;
    this.#promptLogprobs.delete(sequence);
    this.#sayEcho(sequence, known);
    if (sequence.options.maxOutputTokens > 0) return;
    sequence.finishReason = 'length';
    this.#sayTokens(sequence, [], '', []);
  }

  /**
   * Ends what is not finished; a choice that waits for the rest of a character or stop string shows
   * it.
   */
  cancel(reason: FinishReason): void {
    if (this.#hasEnded) return;
    for (const sequence of this.sequences) {
      if (sequence.finishReason !== null) continue;
      sequence.finishReason = reason;
      this.#sayTokens(sequence, [], sequence.options.text.flush().text, []);
    }
    this.#endIfDone();
  }

  /** Ends with an error. */
  fail(fault: GenerationFault): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#events.push({ type: 'error', ...fault });
  }

  /** @returns what has to be said since the last call */
  takeEvents(): GenerationEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #sayEcho(sequence: Sequence, logprobs: readonly TokenLogprobs[] | null): void {
    const { promptTokenIds, choice } = sequence.options;
    const echo = toEcho(promptTokenIds, logprobs, this.#context);
    this.#events.push({ type: 'echo', choice, ...echo });
  }

  #sayTokens(
    sequence: Sequence,
    tokenIds: readonly TokenId[],
    text: string,
    logprobs: readonly TokenLogprobs[],
  ): void {
    const { options, finishReason } = sequence;
    if (finishReason !== null) this.#open.delete(sequence);
    this.#events.push({
      type: 'tokens',
      choice: options.choice,
      tokenIds: [...tokenIds],
      text,
      logprobs: options.topLogprobs === null ? null : [...logprobs],
      finishReason,
    });
  }

  #endIfDone(): void {
    if (this.#hasEnded || this.#open.size > 0) return;
    this.#hasEnded = true;
    const now = this.#context.now();
    const promptReadMs = this.#promptReadMs ?? now;
    this.#events.push({
      type: 'end',
      usage: this.#usage,
      timings: { prefillMs: promptReadMs - this.#startedMs, decodeMs: now - promptReadMs },
      speculation: this.#speculation,
    });
  }

  get #usage() {
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
    const firstChoices = this.sequences.filter(({ options }) => options.choice % this.#job.n === 0);
    const tally = this.#tally;
    return {
      promptTokens: sum(this.#job.prompts.map(({ length }) => length)),
      cachedTokens: sum(firstChoices.map(({ numCachedTokens }) => numCachedTokens)),
      completionTokens: sum(this.sequences.map(({ numOutputTokens }) => numOutputTokens)),
      acceptedPredictionTokens: tally.numAccepted,
      rejectedPredictionTokens: tally.numDrafted - tally.numAccepted,
    };
  }

  get #tally(): DraftTally {
    const tally = new DraftTally();
    for (const sequence of this.sequences) tally.merge(sequence.tally);
    return tally;
  }

  get #speculation(): ProposerStats[] {
    return this.#tally.stats;
  }
}
