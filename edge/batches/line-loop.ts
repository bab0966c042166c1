import { setTimeout as sleep } from 'node:timers/promises';
import type { Batch } from '../../shared/protocol/batch.ts';
import type { ModelCatalog } from '../catalog.ts';
import type { Log } from '../log.ts';
import type { Commit, LedgerReply } from '../transport/batches.ts';
import type { Transport } from '../transport/transport.ts';
import { answerLine, expiredLine, type LineAnswer, type LineContext } from './answer-line.ts';
import type { Line } from './lines.ts';
import { Results } from './results.ts';

export interface LoopContext {
  readonly transport: Transport;
  readonly catalog: ModelCatalog;
  readonly window: number;
  readonly now: () => number;
  readonly log: Log;
  readonly stopped: AbortSignal;
  readonly find: () => Promise<Batch | null>;
  readonly commit: (commit: Commit) => Promise<LedgerReply>;
}

/** Lines that may be begun beyond one that takes long, for each line of the window. */
const AHEAD = 8;
/** Characters of results that wait for one that takes long. */
const MAX_HELD = 4 * 1024 * 1024;
/** Of lines that are out: a few that are as long as may be, or a window of ordinary ones. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** Results that come within this time are written together. */
const LINGER_MS = 50;
const POLL_MS = 1000;

/** The lines of one batch: a window of them is out, their results are written in order. */
export class LineLoop {
  readonly #batch: Batch;
  readonly #context: LoopContext;
  readonly #lineContext: LineContext;
  readonly #results: Results;
  readonly #givenUp = new AbortController();
  /** Answers are no longer waited for here. */
  readonly #left = new AbortController();
  #numBegun = 0;
  #reason: 'cancelled' | 'expired' | null = null;
  #hasRead = false;
  #failure: unknown = null;
  #news = Promise.withResolvers<void>();

  constructor(batch: Batch, context: LoopContext) {
    this.#batch = batch;
    this.#context = context;
    this.#results = new Results(batch.progress);
    const { transport, catalog, log } = context;
    const [givenUp, stopped] = [this.#givenUp.signal, this.#left.signal];
    this.#lineContext = { transport, catalog, log, stopped, givenUp };
  }

  /**
   * Returns when every line has its result written, or it was told to stop.
   *
   * @returns why it gave up what was left, `null` when nothing was
   */
  async run(lines: AsyncIterable<Line>): Promise<'cancelled' | 'expired' | null> {
    const over = new AbortController();
    if (this.#batch.status === 'cancelling') this.#giveUp('cancelled');
    const watching = this.#watch(over.signal);
    const stop = () => {
      this.#left.abort();
      this.#tell();
    };
    const { stopped } = this.#context;
    stopped.addEventListener('abort', stop);
    if (stopped.aborted) stop();
    try {
      await Promise.all([this.#beginAll(lines), this.#commitAll()]);
    } finally {
      over.abort();
      this.#left.abort();
      stopped.removeEventListener('abort', stop);
      await watching;
    }
    return this.#reason;
  }

  get #isExpired(): boolean {
    return this.#reason === 'expired';
  }

  get #isOver(): boolean {
    return this.#context.stopped.aborted || this.#failure !== null;
  }

  async #beginAll(lines: AsyncIterable<Line>): Promise<void> {
    try {
      for await (const line of lines) {
        while (!this.#hasRoom() && !this.#isOver) await this.#news.promise;
        if (this.#isOver || this.#reason === 'cancelled') break;
        this.#begin(line);
      }
    } catch (error) {
      this.#failure ??= error;
      throw error;
    } finally {
      this.#hasRead = true;
      this.#tell();
    }
  }

  #begin(line: Line): void {
    const settle = this.#results.begin(line);
    this.#answer(line)
      .then(settle, (error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#tell());
  }

  async #answer(line: Line): Promise<LineAnswer> {
    if (this.#isExpired) return expiredLine(this.#batch, line);
    const answer = await answerLine(this.#batch, line, this.#mayBeKnown(), this.#lineContext);
    return answer.type === 'undone' && this.#isExpired ? expiredLine(this.#batch, line) : answer;
  }

  /**
   * The runner before us had begun so many lines beyond those that are written, if its window was
   * not far larger.
   */
  #mayBeKnown(): boolean {
    this.#numBegun += 1;
    return this.#batch.epoch > 1 && this.#numBegun <= 4 * this.#maxSlots;
  }

  get #maxSlots(): number {
    return AHEAD * this.#context.window;
  }

  #hasRoom(): boolean {
    const { numWaiting, numWaitingBytes, numSlots, numHeld } = this.#results;
    if (numWaiting >= this.#context.window || numSlots >= this.#maxSlots) return false;
    return numWaitingBytes < MAX_WAITING_BYTES && numHeld < MAX_HELD;
  }

  async #commitAll(): Promise<void> {
    try {
      for (;;) {
        // Undone lines of a runner that stops must be done by the next: nothing is written from
        // there on.
        if (this.#isOver) break;
        const commit = this.#results.take();
        if (commit !== null) {
          const { status } = await this.#context.commit(commit);
          if (status === 'cancelling') this.#giveUp('cancelled');
          this.#tell();
          if (!this.#hasRead) await sleep(LINGER_MS);
        } else if (this.#hasRead && this.#results.numSlots === 0) break;
        else await this.#news.promise;
      }
    } catch (error) {
      this.#failure ??= error;
      this.#tell();
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** Looks for a client that cancels, and at the clock. */
  async #watch(over: AbortSignal): Promise<void> {
    const { find, now, log } = this.#context;
    const { spec } = this.#batch;
    while (!over.aborted) {
      if (now() >= spec.expiresMs) this.#giveUp('expired');
      try {
        if ((await find())?.status === 'cancelling') this.#giveUp('cancelled');
      } catch (error) {
        if (!over.aborted) log('batch_unwatched', { id: spec.id, cause: error });
      }
      await sleep(POLL_MS, undefined, { signal: over }).catch(() => undefined);
    }
  }

  #giveUp(reason: 'cancelled' | 'expired'): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#givenUp.abort();
    this.#tell();
  }

  #tell(): void {
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers();
    resolve();
  }
}
