import { join } from 'node:path';
import { Child } from '../child.ts';

export type PeerQuestion = {
  /** One row each, all of one length. */
  readonly prompts: readonly (readonly number[])[];
  /** Output tokens of each row; the end token does not stop it. */
  readonly numTokens: number;
};

export interface PeerAnswer {
  /** Until every row has its first token. */
  readonly prefillMs: number;
  /** From there to the last. */
  readonly decodeMs: number;
  readonly tokenIds: number[][];
}

export interface PeerOptions {
  readonly modelPath: string;
  readonly numThreads: number;
  readonly contextTokens: number;
}

/**
 * The same weights in node-llama-cpp, in a process of its own. Its threads spin between tokens and
 * a while after: outside of a measurement it is paused, so that it takes nothing from what is
 * measured beside it.
 */
export class LlamaCpp implements AsyncDisposable {
  readonly numThreads: number;
  readonly #child: Child<PeerQuestion, PeerAnswer>;

  private constructor(child: Child<PeerQuestion, PeerAnswer>, numThreads: number) {
    this.#child = child;
    this.numThreads = numThreads;
  }

  /** @throws {Error} where its binary does not run */
  static async open({ modelPath, numThreads, contextTokens }: PeerOptions): Promise<LlamaCpp> {
    const script = join(import.meta.dirname, 'llama-cpp-process.ts');
    const child = await Child.open<PeerQuestion, PeerAnswer>(script, [
      modelPath,
      `${numThreads}`,
      `${contextTokens}`,
    ]);
    child.pause();
    return new LlamaCpp(child, numThreads);
  }

  async generate(question: PeerQuestion): Promise<PeerAnswer> {
    this.#child.resume();
    const answer = await this.#child.ask(question);
    this.#child.pause();
    return answer;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child[Symbol.asyncDispose]();
  }
}
