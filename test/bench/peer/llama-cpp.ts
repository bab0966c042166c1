import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface PeerQuestion {
  /** One row each, all of one length. */
  readonly prompts: readonly (readonly number[])[];
  /** Output tokens of each row; the end token does not stop it. */
  readonly numTokens: number;
}

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
 * The same weights in node-llama-cpp, in a process of its own. Its threads spin between tokens and a while
 * after: outside of a measurement it is stopped, so that it takes nothing from what is measured beside it.
 */
export class LlamaCpp implements AsyncDisposable {
  readonly numThreads: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, numThreads: number) {
    this.#child = child;
    this.numThreads = numThreads;
  }

  /** @throws {Error} where its binary does not run */
  static async open({ modelPath, numThreads, contextTokens }: PeerOptions): Promise<LlamaCpp> {
    const script = join(import.meta.dirname, 'llama-cpp-process.ts');
    const child = fork(script, [modelPath, `${numThreads}`, `${contextTokens}`]);
    await answerOf(child);
    child.kill('SIGSTOP');
    return new LlamaCpp(child, numThreads);
  }

  async generate(question: PeerQuestion): Promise<PeerAnswer> {
    this.#child.kill('SIGCONT');
    this.#child.send(question);
    const answer: PeerAnswer = await answerOf(this.#child);
    this.#child.kill('SIGSTOP');
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}

async function answerOf(child: ChildProcess) {
  const listening = new AbortController();
  const { signal } = listening;
  try {
    const ended = once(child, 'exit', { signal }).then(([status]) => {
      throw new Error(`node-llama-cpp ended with status ${status}`);
    });
    const [message] = await Promise.race([once(child, 'message', { signal }), ended]);
    ended.catch(() => undefined); // listening no longer
    return message;
  } finally {
    listening.abort();
  }
}
