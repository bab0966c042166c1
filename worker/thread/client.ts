import { Worker } from 'node:worker_threads';
import { invariant } from '../../shared/assert.ts';
import type { RequestId } from '../../shared/ids.ts';
import { type Beginning, type GenerationEvent, isLast } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { EngineUsage } from '../engine/engine.ts';
import type { Command, Report, ThreadOptions } from './messages.ts';
import type { OpenedModel } from './opened-model.ts';

type Listener = (events: readonly GenerationEvent[]) => void;

/**
 * The engine, seen from the main thread. A bug in the engine ends the process (CONVENTIONS, section
 * 5).
 */
export class EngineClient implements AsyncDisposable {
  readonly model: OpenedModel;
  readonly #thread: Worker;
  readonly #listenerById = new Map<RequestId, Listener>();
  readonly #releaseById = new Map<RequestId, PromiseWithResolvers<void>>();
  #measurement: PromiseWithResolvers<EngineUsage> | null = null;

  private constructor(thread: Worker, model: OpenedModel) {
    this.#thread = thread;
    this.model = model;
    thread.on('message', (report: Report) => this.#take(report));
  }

  /** @throws {Error} with one line for the operator when the model cannot be served */
  static async open(options: ThreadOptions): Promise<EngineClient> {
    const entry = new URL('./main.ts', import.meta.url);
    const thread = new Worker(entry, { workerData: options, name: 'engine' });
    const model = await new Promise<OpenedModel>((resolve, reject) => {
      thread.once('error', reject);
      thread.once('message', (report: Report) => {
        if (report.type === 'ready') resolve(report.model);
        else reject(new Error(report.type === 'refused' ? report.message : 'no model'));
      });
    });
    thread.removeAllListeners('error');
    return new EngineClient(thread, model);
  }

  /** Requests that have not ended. */
  get numRequests(): number {
    return this.#listenerById.size;
  }

  /** See `Generator` of worker/queue. */
  start(job: Job, beginning: Beginning, listener: Listener): void {
    invariant(!this.#listenerById.has(job.id), `${job.id} is running already`);
    this.#listenerById.set(job.id, listener);
    this.#send({ type: 'start', job, beginning });
  }

  proceed(id: RequestId): void {
    if (this.#listenerById.has(id)) this.#send({ type: 'proceed', id });
  }

  cancel(id: RequestId, reason: 'cancelled' | 'deadline'): void {
    if (this.#listenerById.has(id)) this.#send({ type: 'cancel', id, reason });
  }

  release(id: RequestId): Promise<void> {
    const underWay = this.#releaseById.get(id);
    if (underWay !== undefined) return underWay.promise;
    const release = Promise.withResolvers<void>();
    this.#releaseById.set(id, release);
    this.#send({ type: 'release', id });
    return release.promise;
  }

  /** Where the engine stands between two steps, measured once for all who ask meanwhile. */
  measure(): Promise<EngineUsage> {
    if (this.#measurement === null) {
      this.#measurement = Promise.withResolvers();
      this.#send({ type: 'measure' });
    }
    return this.#measurement.promise;
  }

  /** Ends the thread between two steps. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#thread.once('exit', () => closed.resolve());
    this.#send({ type: 'close' });
    await closed.promise;
  }

  #send(command: Command): void {
    this.#thread.postMessage(command);
  }

  #take(report: Report): void {
    if (report.type === 'released') {
      this.#listenerById.delete(report.id);
      this.#releaseById.get(report.id)?.resolve();
      this.#releaseById.delete(report.id);
    }
    if (report.type === 'measured') {
      this.#measurement?.resolve(report.usage);
      this.#measurement = null;
    }
    if (report.type !== 'updates') return;
    for (const { id, events } of report.updates) {
      const listener = this.#listenerById.get(id);
      const last = events.at(-1);
      if (last !== undefined && isLast(last)) this.#listenerById.delete(id);
      listener?.(events);
    }
  }
}
