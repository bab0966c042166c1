import { type ChildProcess, fork, type Serializable } from 'node:child_process';
import { once } from 'node:events';

/** A process of the benchmark's own that answers one question after the other. */
export class Child<Question extends Serializable, Answer> implements AsyncDisposable {
  readonly #child: ChildProcess;

  readonly #killWithUs = () => this.#child.kill('SIGKILL'); // paused, it would not notice our end

  private constructor(child: ChildProcess) {
    this.#child = child;
    process.once('exit', this.#killWithUs);
  }

  /** @throws {Error} when it ends before it is ready */
  static async open<Question extends Serializable, Answer>(
    script: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Child<Question, Answer>> {
    const options = { serialization: 'advanced', env: { ...process.env, ...env } } as const;
    const child = fork(script, args, options);
    await messageOf(child);
    return new Child(child);
  }

  async ask(question: Question): Promise<Answer> {
    this.#child.send(question);
    return messageOf(this.#child);
  }

  /** Takes the processor from it, also from threads that spin while they wait. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#killWithUs);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}

async function messageOf(child: ChildProcess) {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const end = (status: number | null) => {
    reject(new Error(`${child.spawnargs.slice(1).join(' ')} ended with status ${status}`));
  };
  child.once('message', resolve);
  child.once('exit', end);
  const message: Awaited<ReturnType<typeof JSON.parse>> = await promise;
  child.off('exit', end);
  return message;
}

/** The child's side. A failure ends the process: its parent then says so. */
export function answerParent<Question, Answer>(
  answer: (question: Question) => Promise<Answer>,
): void {
  process.on('message', (question: Question) => {
    answer(question).then(
      (message) => process.send?.(message),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send?.('ready');
}
