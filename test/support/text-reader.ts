import type { TokenId } from '../../shared/ids.ts';
import type { SinkPolicy } from '../../shared/protocol/endless.ts';
import { roomInChunk, type SinkWindow } from '../../worker/cache/columns.ts';
import { KvCache } from '../../worker/cache/kv-cache.ts';
import { NewColumns } from '../../worker/cache/new-columns.ts';
import type { CacheRow } from '../../worker/cache/row.ts';
import { buildBatches } from '../../worker/engine/batch.ts';
import { Context } from '../../worker/engine/context.ts';
import type { ModelRunner } from '../../worker/model/runner.ts';

/**
 * Lets the model read a text through the engine's own cache and batches, and tells what it expects
 * after each token.
 */
export class TextReader {
  readonly #runner: ModelRunner;
  readonly #cache: KvCache;
  readonly #row: CacheRow;

  /** @param sinkWindow `null` to see all that was read */
  constructor(runner: ModelRunner, sinkWindow: SinkWindow | null) {
    this.#runner = runner;
    this.#cache = new KvCache(runner.shape, 1);
    this.#row = this.#cache.open(sinkWindow);
  }

  /** Forgets the text. */
  clear(): void {
    this.#cache.clear(this.#row);
  }

  /** @returns logits after each token, of which there may be any number */
  async read(tokenIds: readonly TokenId[]): Promise<Float32Array[]> {
    const logits: Float32Array[] = [];
    for (const chunk of this.#chunks(tokenIds)) {
      logits.push(...(await this.#run(chunk, chunk.length)));
    }
    return logits;
  }

  /** @returns logits after the last token */
  async readToEnd(tokenIds: readonly TokenId[]): Promise<Float32Array> {
    let last = new Float32Array();
    let numRead = 0;
    for (const chunk of this.#chunks(tokenIds)) {
      numRead += chunk.length;
      const [logits] = await this.#run(chunk, numRead === tokenIds.length ? 1 : 0);
      if (logits !== undefined) last = logits.slice();
    }
    return last;
  }

  /** Each as long as the cache takes it, when those before it were read. */
  *#chunks(tokenIds: readonly TokenId[]): Generator<readonly TokenId[]> {
    for (let start = 0; start < tokenIds.length; ) {
      const end = start + roomInChunk(this.#row.numTokens, this.#row.sinkWindow);
      yield tokenIds.slice(start, end);
      start = end;
    }
  }

  async #run(tokenIds: readonly TokenId[], numLogits: number): Promise<Float32Array[]> {
    const read = { row: this.#row, tokenIds, numLogits };
    const [batch] = buildBatches([read], this.#cache, this.#runner.shape.slidingWindow);
    const { input } = batch!;
    const output = await this.#runner.run(input);
    const { logits } = output;
    const columns = new NewColumns(this.#runner.shape, output, input.numNewTokens);
    this.#cache.append(this.#row, tokenIds.length, { columns, row: 0 });
    const { vocabSize } = this.#runner.shape;
    return Array.from({ length: numLogits }, (_, i) =>
      logits.subarray(i * vocabSize, (i + 1) * vocabSize),
    );
  }
}

/** The same as the engine serves it under `sinks`: contexts that fill, and are begun anew. */
export class EndlessReader {
  readonly #context: Context;
  readonly #reader: TextReader;

  /** @param promptTokenIds what the text begins with; at least the sinks */
  constructor(runner: ModelRunner, contextPolicy: SinkPolicy, promptTokenIds: readonly TokenId[]) {
    const published = { publishedTokenIds: [], numTrimmed: 0 };
    this.#context = new Context({ promptTokenIds, ...published, contextPolicy });
    this.#reader = new TextReader(runner, this.#context.sinkWindow);
  }

  /** @returns logits after the beginning of the text */
  start(): Promise<Float32Array> {
    return this.#reader.readToEnd(this.#context.tokenIds);
  }

  /** @returns logits after each token */
  async read(tokenIds: readonly TokenId[]): Promise<Float32Array[]> {
    const logits: Float32Array[] = [];
    let start = 0;
    for (const [i, tokenId] of tokenIds.entries()) {
      this.#context.push(tokenId);
      if (this.#context.room > 0) continue;
      // A token that fills the context is the last of the next one, and read there.
      logits.push(...(await this.#reader.read(tokenIds.slice(start, i))));
      this.#context.renew();
      this.#reader.clear();
      logits.push(await this.start());
      start = i + 1;
    }
    logits.push(...(await this.#reader.read(tokenIds.slice(start))));
    return logits;
  }
}
