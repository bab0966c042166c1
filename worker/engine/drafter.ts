import { invariant } from '../../shared/assert.ts';
import type { TokenId } from '../../shared/ids.ts';
import { roomInChunk, type SinkWindow } from '../cache/columns.ts';
import { KvCache } from '../cache/kv-cache.ts';
import { NewColumns } from '../cache/new-columns.ts';
import type { CacheRow } from '../cache/row.ts';
import { freeOutput, type ModelOutput, type ModelRunner } from '../model/runner.ts';
import { TokenChooser } from '../sampling/choose.ts';
import { probabilityOf } from '../sampling/logprobs.ts';
import { buildBatches, type RowRead } from './batch.ts';
import type { Sequence } from './sequence.ts';

export interface DraftRequest {
  readonly sequence: Sequence;
  /** Longest draft wanted, at least 1; it must end within the block that the target fills. */
  readonly maxTokens: number;
  /**
   * What may follow the sequence and these drafted tokens, for the draft model to verify in one run
   * as the target verifies the draft; `null` to draft token by token.
   *
   * Spector and Re, "Accelerating LLM Inference with Staged Speculative Decoding",
   * arXiv:2308.04623.
   */
  readonly lookup: ((drafted: readonly TokenId[]) => readonly TokenId[]) | null;
  /** Whether a draft of this probability, by the draft model's own word, is worth going on with. */
  readonly goesOn: (cumulativeProbability: number) => boolean;
}

export interface Draft {
  readonly sequence: Sequence;
  readonly tokenIds: readonly TokenId[];
  /** [k] Probability of the first 1 to k tokens, by the draft model's own word. */
  readonly cumulativeProbabilities: readonly number[];
}

/** What the draft model's cache holds of a sequence. */
interface Reader {
  readonly row: CacheRow;
  /** Length of the sequence when it was last drafted for, and what was drafted. */
  numKnown: number;
  drafted: readonly TokenId[];
}

/** Leading tokens of a context that the model has, as far as it was looked at. */
interface KnownTokens {
  /** Which context it is. */
  readonly numForgotten: number;
  numTokens: number;
}

/**
 * Drafts with a small model that has a cache of its own, for all sequences at once. Its draws use
 * the noise of the target's, so that the two agree wherever their probabilities do.
 *
 * The model reads whatever it has not read yet, be it a prompt, the one token that a fully accepted
 * draft left unread beside the bonus token, or a recovered token; a prompt is read in chunks, one a
 * step.
 */
export class Drafter {
  readonly #runner: ModelRunner;
  readonly #cache: KvCache;
  readonly #chooser: TokenChooser;
  readonly #readerBySequence = new Map<Sequence, Reader>();
  readonly #knownBySequence = new WeakMap<Sequence, KnownTokens>();

  constructor(runner: ModelRunner, maxSequences: number) {
    this.#runner = runner;
    this.#cache = new KvCache(runner.shape, maxSequences);
    this.#chooser = new TokenChooser(runner.shape.vocabSize);
  }

  /** Tokens that the model must read before it can draft for the sequence. */
  numUnread(sequence: Sequence): number {
    const reader = this.#readerBySequence.get(sequence);
    return sequence.tokenIds.length - (reader?.row.numTokens ?? 0);
  }

  /**
   * The longest draft for the sequence: none beyond the model's own context, nor behind a token it
   * lacks.
   */
  roomFor(sequence: Sequence): number {
    const { maxSequenceTokens, canSlide } = this.#runner.shape;
    if (!this.#knowsAll(sequence)) return 0;
    if (canSlide && sequence.context.sinkWindow !== null) return Infinity;
    return Math.max(0, maxSequenceTokens - sequence.tokenIds.length);
  }

  /** Whether the model has all tokens of a sequence, of which each is looked at once. */
  #knowsAll(sequence: Sequence): boolean {
    const { tokenIds, context } = sequence;
    const { numForgotten } = context;
    let known = this.#knownBySequence.get(sequence);
    if (known?.numForgotten !== numForgotten) known = { numForgotten, numTokens: 0 };
    this.#knownBySequence.set(sequence, known);
    const { vocabSize } = this.#runner.shape;
    while (known.numTokens < tokenIds.length && tokenIds[known.numTokens]! < vocabSize) {
      known.numTokens += 1;
    }
    return known.numTokens === tokenIds.length;
  }

  /**
   * @returns a draft for each request, empty where the model is still reading, and how often it ran
   */
  async draft(
    requests: readonly DraftRequest[],
  ): Promise<{ drafts: readonly Draft[]; numRuns: number }> {
    const draftings = requests.map(
      (request) => new Drafting(request, this.#open(request.sequence)),
    );
    let numRuns = 0;
    for (;;) {
      const reads = draftings.filter(({ isDone }) => !isDone).map((drafting) => drafting.toRead());
      if (reads.length === 0) break;
      await this.#read(reads);
      numRuns += 1;
    }
    for (const { reader, draft } of draftings) {
      reader.numKnown = draft.sequence.tokenIds.length;
      reader.drafted = draft.tokenIds;
    }
    for (const drafting of draftings) drafting.close();
    return { drafts: draftings.map(({ draft }) => draft), numRuns };
  }

  /** Forgets drafted tokens that the target did not keep. */
  settle(sequence: Sequence): void {
    const reader = this.#readerBySequence.get(sequence);
    if (reader === undefined) return;
    const { row, numKnown, drafted } = reader;
    let numRight = 0;
    while (
      numRight < drafted.length &&
      drafted[numRight] === sequence.tokenIds[numKnown + numRight]
    ) {
      numRight += 1;
    }
    this.#cache.truncate(row, Math.min(row.numTokens, numKnown + numRight));
    reader.drafted = [];
  }

  /** Gives the sequence's row to others. */
  remove(sequence: Sequence): void {
    const reader = this.#readerBySequence.get(sequence);
    if (reader === undefined) return;
    this.#readerBySequence.delete(sequence);
    this.#cache.release(reader.row);
  }

  #open(sequence: Sequence): Reader {
    const known = this.#readerBySequence.get(sequence);
    if (known !== undefined) return known;
    const row = this.#cache.open(this.#windowFor(sequence));
    const reader: Reader = { row, numKnown: 0, drafted: [] };
    this.#readerBySequence.set(sequence, reader);
    return reader;
  }

  /** The sequence's own, or as much of it as the model has positions for. */
  #windowFor({ context: { sinkWindow } }: Sequence): SinkWindow | null {
    const { canSlide, maxSequenceTokens } = this.#runner.shape;
    if (sinkWindow === null || !canSlide) return null;
    const { numSinks, windowSize } = sinkWindow;
    return { numSinks, windowSize: Math.min(windowSize, maxSequenceTokens - numSinks) };
  }

  async #read(reads: readonly DraftRead[]): Promise<void> {
    const { vocabSize, slidingWindow } = this.#runner.shape;
    const outputs: ModelOutput[] = [];
    const appends: (() => void)[] = [];
    for (const { input, reads: batched } of buildBatches(reads, this.#cache, slidingWindow)) {
      const output = await this.#runner.run(input);
      outputs.push(output);
      const { logits } = output;
      const columns = new NewColumns(this.#runner.shape, output, input.numNewTokens);
      for (const { read, row, firstLogits } of batched) {
        const rows = Array.from({ length: read.numLogits }, (_, i) =>
          logits.subarray((firstLogits + i) * vocabSize, (firstLogits + i + 1) * vocabSize),
        );
        const numKept = read.drafting.take(read, rows, this.#chooser);
        const from = { columns, row };
        if (!this.#cache.accepts(numKept, from)) read.drafting.stop();
        else appends.push(() => this.#cache.append(read.row, numKept, from));
      }
    }
    for (const append of appends) append();
    outputs.forEach(freeOutput);
  }
}

interface DraftRead extends RowRead {
  readonly drafting: Drafting;
  /** Looked-up tokens at the end of `tokenIds`. */
  readonly guess: readonly TokenId[];
}

/** One sequence's draft while it grows. */
class Drafting {
  readonly reader: Reader;
  readonly #request: DraftRequest;
  readonly #tokenIds: TokenId[] = [];
  readonly #probabilities: number[] = [];
  #isDone = false;

  constructor(request: DraftRequest, reader: Reader) {
    this.#request = request;
    this.reader = reader;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  get draft(): Draft {
    return {
      sequence: this.#request.sequence,
      tokenIds: this.#tokenIds,
      cumulativeProbabilities: this.#probabilities,
    };
  }

  toRead(): DraftRead {
    const { sequence, lookup, maxTokens } = this.#request;
    const { row } = this.reader;
    const room = roomInChunk(row.numTokens, row.sinkWindow);
    const unread = sequence.tokenIds.slice(row.numTokens);
    const drafted = this.#tokenIds.slice(this.#tokenIds.length - this.#numUnreadDrafted());
    const pending = [...unread, ...drafted];
    invariant(pending.length > 0, 'the draft model has read more than there is');
    if (pending.length > room) {
      this.#isDone = true; // the prompt comes first
      const tokenIds = pending.slice(0, room);
      return { drafting: this, row, tokenIds, numLogits: 0, guess: [] };
    }
    const numGuess = Math.min(maxTokens - this.#tokenIds.length - 1, room - pending.length);
    const guess = numGuess > 0 ? (lookup?.(this.#tokenIds) ?? []).slice(0, numGuess) : [];
    const tokenIds = [...pending, ...guess];
    return { drafting: this, row, tokenIds, numLogits: guess.length + 1, guess };
  }

  #numUnreadDrafted(): number {
    const { sequence } = this.#request;
    const numRead = Math.max(0, this.reader.row.numTokens - sequence.tokenIds.length);
    return this.#tokenIds.length - numRead;
  }

  /** Ends the draft where it is. */
  stop(): void {
    this.#isDone = true;
  }

  /**
   * Draws what follows, for as long as the guess foresaw it, and one token more.
   *
   * @param rows [numLogits] of [vocabSize]
   * @returns how many of the read tokens stay; none when the model gave NaN
   */
  take(read: DraftRead, rows: readonly Float32Array[], chooser: TokenChooser): number {
    const numPending = read.tokenIds.length - read.guess.length;
    for (const [i, row] of rows.entries()) {
      if (Number.isNaN(row[0])) {
        this.stop();
        return 0;
      }
      const tokenId = this.#draw(row, chooser);
      if (this.#isDone || tokenId !== read.guess[i]) return numPending + i;
    }
    return read.tokenIds.length;
  }

  #draw(logits: Float32Array, chooser: TokenChooser): TokenId {
    const { sequence, maxTokens, goesOn } = this.#request;
    const position = sequence.numTokens + this.#tokenIds.length;
    const sampling = sequence.samplingAt(position);
    const draw = { seed: sampling.seed, position };
    const tokenId = chooser.choose(logits, sampling, sequence.history, draw);
    const before = this.#probabilities.at(-1) ?? 1;
    const probability = before * probabilityOf(tokenId, logits, sampling.temperature);
    this.#tokenIds.push(tokenId);
    this.#probabilities.push(probability);
    sequence.history.add(tokenId);
    const isEnd = sequence.options.endTokenIds.has(tokenId);
    const isLast = this.#tokenIds.length >= maxTokens || isEnd;
    this.#isDone = isLast || !goesOn(probability);
    return tokenId;
  }

  /** Leaves the sequence as it was. */
  close(): void {
    invariant(this.#isDone, 'a draft that is still growing');
    for (const tokenId of this.#tokenIds) this.#request.sequence.history.remove(tokenId);
  }
}
