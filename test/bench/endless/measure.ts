import type { TokenId } from '../../../shared/ids.ts';
import type { SinkPolicy } from '../../../shared/protocol/endless.ts';
import type { ModelRunner } from '../../../worker/model/runner.ts';
import { EndlessReader, TextReader } from '../../support/text-reader.ts';
import { median, quantile, sum } from '../statistics.ts';
import { lossOf } from './loss.ts';

/** What was measured on a stretch of the text. Losses are means of negative log-probabilities. */
export interface Stretch {
  /** Tokens read up to its end. */
  readonly numTokens: number;
  readonly sinks: number;
  /** `null` beyond the part that is read so. */
  readonly windowOnly: number | null;
  /** Median, of single tokens. */
  readonly stepMs: number;
  /** Of the same tokens, those included with which a context is begun anew; `null` of none. */
  readonly spread: Spread | null;
  /** Median, and the greatest. */
  readonly rssBytes: number;
  readonly maxRssBytes: number;
  /** `null` for a stretch that is not compared. */
  readonly compared: Comparison | null;
}

/** Milliseconds per token. */
export interface Spread {
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
}

/** What a stretch is like where its texts are begun anew. */
export interface Comparison {
  readonly dense: number;
  /** Of the begin of the stretch, all that was read in view: tokens beyond the trained length. */
  readonly densePast: number;
  /** Of the same tokens, some of the stretch. */
  readonly recomputed: number;
  readonly sinksOfRecomputed: number;
  /** Median, of tokens with their whole window. */
  readonly recomputedMs: number;
}

export interface MeasureOptions {
  readonly policy: SinkPolicy;
  readonly bosTokenId: TokenId | null;
  readonly stretchTokens: number;
  /** Of each stretch, tokens that are read one at a time. */
  readonly numSingle: number;
  /** Of each stretch, tokens that are predicted from a window that is read anew. */
  readonly numRecomputed: number;
  /** One stretch of so many is compared with what begins anew. */
  readonly comparedEvery: number;
  /** Tokens that are read with a window alone, too. */
  readonly numWindowOnly: number;
}

const CHUNK = 64;
/** Trained lengths that are read with all in view. */
export const PAST_CONTEXTS = 8;

/**
 * Reads a text in all the ways there are, stretch by stretch, holding no more of what it says than
 * the numbers.
 */
export class Measurement {
  readonly #runner: ModelRunner;
  readonly #text: Int32Array;
  readonly #options: MeasureOptions;
  readonly #sinks: EndlessReader;
  readonly #windowOnly: TextReader;
  readonly #dense: TextReader;
  readonly #recomputed: TextReader;
  /** Of each token of the stretch, by how it was read. */
  readonly #losses: Float64Array;
  #position: number;
  #numStretches = 0;

  /** @param text begins with the sinks */
  constructor(runner: ModelRunner, text: Int32Array, options: MeasureOptions) {
    const { policy, stretchTokens } = options;
    const numColumns = policy.sinkTokens + policy.windowTokens;
    this.#runner = runner;
    this.#text = text;
    this.#options = options;
    this.#position = policy.sinkTokens;
    this.#sinks = new EndlessReader(runner, policy, [...text.subarray(0, this.#position)]);
    this.#windowOnly = new TextReader(runner, { numSinks: 0, windowSize: numColumns });
    this.#dense = new TextReader(runner, null);
    this.#recomputed = new TextReader(runner, null);
    this.#losses = new Float64Array(stretchTokens);
  }

  async start(): Promise<void> {
    await this.#sinks.start();
    await this.#windowOnly.readToEnd([...this.#text.subarray(0, this.#position)]);
  }

  /** The next stretch. */
  async next(): Promise<Stretch> {
    const start = this.#position;
    const end = start + this.#options.stretchTokens;
    const { loss: sinks, ...steps } = await this.#readSinks(start, end);
    const isWindow = end <= this.#options.numWindowOnly + this.#options.policy.sinkTokens;
    const windowOnly = isWindow ? await this.#readWindow(start, end) : null;
    const isCompared = this.#numStretches % this.#options.comparedEvery === 0;
    const compared = isCompared ? await this.#compare(start, end) : null;
    this.#position = end;
    this.#numStretches += 1;
    return { numTokens: end, sinks, windowOnly, ...steps, compared };
  }

  async #compare(start: number, end: number): Promise<Comparison> {
    const dense = await this.#readDense(start, end);
    const densePast = await this.#readPast(start, end);
    return { dense, densePast, ...(await this.#recompute(start, end)) };
  }

  async #readSinks(start: number, end: number) {
    const times: number[] = [];
    const sizes: number[] = [];
    let loss = 0;
    for (let at = start; at < end; ) {
      const isSingle = at - start < this.#options.numSingle;
      const count = isSingle ? 1 : Math.min(CHUNK, end - at);
      const startMs = performance.now();
      const logits = await this.#sinks.read(this.#tokens(at, at + count));
      if (isSingle) times.push(performance.now() - startMs);
      for (const [i, row] of logits.entries()) {
        const tokenLoss = this.#lossOf(row, at + i + 1);
        this.#losses[at + i - start] = tokenLoss;
        loss += tokenLoss;
      }
      if (sizes.length < (10 * (at - start)) / (end - start)) sizes.push(process.memoryUsage.rss());
      at += count;
    }
    return {
      loss: loss / (end - start),
      stepMs: times.length > 0 ? median(times) : 0,
      spread: spreadOf(times),
      rssBytes: median(sizes),
      maxRssBytes: Math.max(...sizes),
    };
  }

  async #readWindow(start: number, end: number): Promise<number> {
    let loss = 0;
    for (let at = start; at < end; at += CHUNK) {
      const logits = await this.#windowOnly.read(this.#tokens(at, Math.min(at + CHUNK, end)));
      for (const [i, row] of logits.entries()) loss += this.#lossOf(row, at + i + 1);
    }
    return loss / (end - start);
  }

  /** In pieces as long as the model's context, each begun anew. */
  async #readDense(start: number, end: number): Promise<number> {
    const { bosTokenId } = this.#options;
    const head = bosTokenId === null ? [] : [bosTokenId];
    const length = this.#runner.shape.maxSequenceTokens - head.length;
    let loss = 0;
    let numTokens = 0;
    for (let at = start; at < end; at += length) {
      const piece = this.#tokens(at, Math.min(at + length, end));
      this.#dense.clear();
      const logits = await this.#dense.read([...head, ...piece]);
      for (const [i, row] of logits.slice(0, -1).entries()) {
        if (head.length > 0 || i > 0) loss += this.#lossOf(row, at + i + 1 - head.length);
      }
      numTokens += logits.length - 1;
    }
    return loss / numTokens;
  }

  /** With nothing forgotten, as no server would: what the model makes of positions it never saw. */
  async #readPast(start: number, end: number): Promise<number> {
    const context = this.#runner.shape.maxSequenceTokens;
    const length = Math.min(PAST_CONTEXTS * context, end - start);
    this.#dense.clear();
    let loss = 0;
    for (let at = 0; at < length; at += CHUNK) {
      const tokens = this.#tokens(start + at, start + Math.min(at + CHUNK, length));
      const logits = await this.#dense.read(tokens);
      for (const [i, row] of logits.entries()) {
        if (at + i >= context) loss += this.#lossOf(row, start + at + i + 1);
      }
    }
    return loss / (length - context);
  }

  /** As many tokens as the cache has columns, all of them read for each prediction. */
  async #recompute(start: number, end: number) {
    const { policy, numRecomputed } = this.#options;
    const numColumns = policy.sinkTokens + policy.windowTokens;
    const stride = Math.floor((end - start) / numRecomputed);
    const times: number[] = [];
    let recomputed = 0;
    let sinks = 0;
    for (let i = 0; i < numRecomputed; i += 1) {
      // Wherever in a block and a context they fall.
      const at = start + i * stride + ((i * 37) % stride);
      const startMs = performance.now();
      this.#recomputed.clear();
      const window = this.#tokens(Math.max(0, at + 1 - numColumns), at + 1);
      const logits = await this.#recomputed.readToEnd(window);
      times.push(performance.now() - startMs);
      recomputed += this.#lossOf(logits, at + 1);
      sinks += this.#losses[at - start]!;
    }
    return {
      recomputed: recomputed / numRecomputed,
      sinksOfRecomputed: sinks / numRecomputed,
      recomputedMs: median(times),
    };
  }

  #tokens(start: number, end: number): TokenId[] {
    return [...this.#text.subarray(start, end)];
  }

  #lossOf(logits: Float32Array, at: number): number {
    return lossOf(logits, this.#text[at]!);
  }
}

function spreadOf(times: readonly number[]): Spread | null {
  if (times.length === 0) return null;
  const max = times.reduce((most, ms) => Math.max(most, ms), 0);
  return { mean: sum(times) / times.length, p99: quantile(times, 0.99), max };
}
