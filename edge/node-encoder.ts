import { Worker } from 'node:worker_threads';
import type { TokenId } from '../shared/ids.ts';
import type { TokenizerFiles } from '../shared/protocol/model-card.ts';
import { createTokenizer } from '../shared/tokenizer.ts';
import { createInlineEncoder, type Encoder, type EncodeTextOptions } from './encoder.ts';

/** To the thread. Encoders are named by number. */
export type EncoderCall =
  | { readonly type: 'open'; readonly encoder: number; readonly files: TokenizerFiles }
  | {
      readonly type: 'encode';
      readonly encoder: number;
      readonly id: number;
      readonly text: string;
      readonly options: EncodeTextOptions;
    }
  | { readonly type: 'close'; readonly encoder: number };

/** From the thread, once for each `encode`. */
export type EncodeAnswer =
  | { readonly type: 'encoded'; readonly id: number; readonly tokenIds: Uint32Array | null }
  | { readonly type: 'failed'; readonly id: number; readonly error: unknown };

/** Shorter texts take less time here than the way there and back. */
const MAX_INLINE_CHARACTERS = 2048;

/**
 * Encodes long texts on a thread of their own, one after the other, so that streams go on
 * meanwhile. It is started with the first of them.
 */
export class EncoderThread implements Disposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<TokenId[] | null>>();
  #thread: Worker | null = null;
  #numEncoders = 0;
  #numCalls = 0;

  readonly createEncoder = (files: TokenizerFiles): Encoder => {
    const inline = createInlineEncoder(createTokenizer(files));
    this.#numEncoders += 1;
    const encoder = this.#numEncoders;
    let openedOn: Worker | null = null;
    return {
      encode: (text, options) => {
        if (text.length <= MAX_INLINE_CHARACTERS) return inline.encode(text, options);
        const thread = this.#start();
        if (openedOn !== thread) send(thread, { type: 'open', encoder, files });
        openedOn = thread;
        return this.#encode(thread, { encoder, text, options });
      },
      close: () => {
        if (openedOn !== null) send(openedOn, { type: 'close', encoder });
        openedOn = null;
      },
    };
  };

  #start(): Worker {
    if (this.#thread !== null) return this.#thread;
    const entry = new URL('./node-encoder-thread.ts', import.meta.url);
    const thread = new Worker(entry, { name: 'encoder' });
    thread.unref();
    thread.on('message', (answer: EncodeAnswer) => this.#take(answer));
    thread.on('error', (error) => this.#end(thread, error));
    this.#thread = thread;
    return thread;
  }

  #encode(
    thread: Worker,
    call: Omit<Extract<EncoderCall, { type: 'encode' }>, 'type' | 'id'>,
  ): Promise<TokenId[] | null> {
    this.#numCalls += 1;
    const id = this.#numCalls;
    const waiting = Promise.withResolvers<TokenId[] | null>();
    this.#waiting.set(id, waiting);
    send(thread, { type: 'encode', id, ...call });
    return waiting.promise;
  }

  #take(answer: EncodeAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.type === 'failed') waiting?.reject(answer.error);
    else waiting?.resolve(answer.tokenIds && [...answer.tokenIds]);
  }

  /** The next long text gets another thread. */
  #end(thread: Worker, error: unknown): void {
    if (this.#thread === thread) this.#thread = null;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  [Symbol.dispose](): void {
    void this.#thread?.terminate();
    this.#thread = null;
  }
}

function send(thread: Worker, call: EncoderCall): void {
  thread.postMessage(call);
}
