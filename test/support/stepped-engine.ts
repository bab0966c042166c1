import type { RequestId } from '../../shared/ids.ts';
import type { Beginning, GenerationEvent } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Engine, type EngineParts } from '../../worker/engine/engine.ts';
import type { Generator } from '../../worker/queue/generation.ts';

/**
 * The real engine in a worker of the test's, one step at a time. As in its thread, what it is told
 * waits until the step under way is done.
 */
export class SteppedEngine implements Generator {
  /** Of the jobs that it was given, in order. */
  readonly started: RequestId[] = [];
  readonly cancelled: RequestId[] = [];
  /** Calls of the model. */
  numCalls = 0;
  readonly #engine: Engine;
  readonly #listenerById = new Map<RequestId, (events: readonly GenerationEvent[]) => void>();
  #commands: (() => void)[] = [];

  constructor(parts: EngineParts) {
    const { shape } = parts.runner;
    const runner = {
      shape,
      run: (input: Parameters<EngineParts['runner']['run']>[0]) => {
        this.numCalls += 1;
        return parts.runner.run(input);
      },
      close: () => parts.runner.close(),
    };
    this.#engine = new Engine({ ...parts, runner });
  }

  get numRunning(): number {
    return this.#engine.usage.numRunning;
  }

  get numWaiting(): number {
    return this.#engine.usage.numWaiting;
  }

  start(
    job: Job,
    beginning: Beginning,
    listener: (events: readonly GenerationEvent[]) => void,
  ): void {
    this.started.push(job.id);
    this.#listenerById.set(job.id, listener);
    this.#commands.push(() => this.#engine.start(job, beginning));
  }

  proceed(id: RequestId): void {
    this.#commands.push(() => this.#engine.proceed(id));
  }

  cancel(id: RequestId, reason: 'cancelled' | 'deadline'): void {
    this.cancelled.push(id);
    this.#commands.push(() => this.#engine.cancel(id, reason));
  }

  async release(id: RequestId): Promise<void> {
    this.#engine.release(id);
  }

  async step(): Promise<void> {
    const commands = this.#commands;
    this.#commands = [];
    for (const command of commands) command();
    await this.#engine.step();
    for (const { id, events } of this.#engine.takeUpdates()) this.#listenerById.get(id)?.(events);
  }

  /** Steps until `promise` is settled. */
  async stepUntil<Value>(promise: Promise<Value>): Promise<Value> {
    let isSettled = false;
    const settled = promise.finally(() => {
      isSettled = true;
    });
    settled.catch(() => undefined); // thrown by the return below
    while (!isSettled) {
      if (this.#engine.isIdle && this.#commands.length === 0) {
        await new Promise((resolve) => setImmediate(resolve));
      } else await this.step();
    }
    return settled;
  }
}
