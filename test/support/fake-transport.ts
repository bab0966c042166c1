import { type QueueLoad, refusalOf } from '../../edge/transport/admission.ts';
import type { QueuePlace } from '../../edge/transport/jobs.ts';
import {
  type KeyedCall,
  type Readers,
  type RequestState,
  type Reservation,
  type ServedModel,
  type SubmittedEvents,
  submittedEvents,
  type Transport,
} from '../../edge/transport/transport.ts';
import { invariant } from '../../shared/assert.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { LoggedEvent, RequestEvent } from '../../shared/protocol/event.ts';
import { decodeJob, encodeJob, type Job } from '../../shared/protocol/job.ts';
import { servedModelField } from '../../shared/protocol/keys.ts';
import type { ModelCard, TokenizerFiles } from '../../shared/protocol/model-card.ts';
import { type JobHost, MemoryJobs } from './memory-jobs.ts';
import { appendTo, type Entry, endUnbegun, FINAL, readLog } from './memory-log.ts';
import { MemoryNotices } from './memory-notices.ts';
import { MemoryBatches, MemoryFiles } from './memory-stores.ts';

/**
 * Plays the worker for one request: appends events, the last one included, unless `signal` aborts
 * first.
 */
export type Play = (
  job: Job,
  append: (event: RequestEvent) => void,
  signal: AbortSignal,
) => void | Promise<void>;

/**
 * Queue, event log and registry in memory, with the semantics of the real ones. Also the worker's
 * side: `claim` and `append`, by hand or by a `Play` that starts with each submitted job.
 */
export class FakeTransport implements Transport {
  readonly files = new MemoryFiles(() => this.ping());
  readonly batches = new MemoryBatches(this.files);
  readonly jobs = new MemoryJobs(this.#jobHost());
  readonly notices = new MemoryNotices(() => this.ping());
  readonly submitted: Job[] = [];
  readonly cancelled: RequestId[] = [];
  /** While set, everything that talks to Redis fails. */
  isDown = false;
  /** Requests that may be queued for one model and fingerprint. */
  maxQueued = Number.POSITIVE_INFINITY;
  readonly #models = new Map<string, ServedModel>();
  readonly #filesByDigest = new Map<string, TokenizerFiles>();
  readonly #rates = new Map<string, number>();
  readonly #entryById = new Map<RequestId, Entry>();
  readonly #reservations = new Map<string, { id: string; digest: string }>();
  readonly #play: Play | null;
  #nextSubmission = Promise.withResolvers<Job>();

  constructor(play: Play | null = null) {
    this.#play = play;
  }

  register(card: ModelCard, files: TokenizerFiles, numWorkers = 1): void {
    this.#models.set(`${card.name} ${card.fingerprint}`, { card, numWorkers });
    this.#filesByDigest.set(card.tokenizerDigest, files);
  }

  /** How many requests of a model its workers finish in a second. */
  setRate({ name: model, fingerprint }: ModelCard, ratePerSecond: number): void {
    this.#rates.set(servedModelField({ model, fingerprint }), ratePerSecond);
  }

  async models(): Promise<readonly ServedModel[]> {
    await this.ping();
    return [...this.#models.values()];
  }

  async tokenizerFiles(digest: string): Promise<TokenizerFiles> {
    await this.ping();
    const files = this.#filesByDigest.get(digest);
    if (files === undefined) throw new PlatformError('unavailable', 'no tokenizer files');
    return files;
  }

  async submit(job: Job, signal: AbortSignal): Promise<SubmittedEvents> {
    await this.ping();
    const known = this.#entryById.get(job.id);
    if (known !== undefined) return submittedEvents(known.job, readLog(known, -1, signal));
    const refusal = refusalOf(job, this.#loadFor(job), this.maxQueued);
    if (refusal !== null) throw refusal;
    const entry: Entry = {
      job: decodeJob(encodeJob(job)),
      log: [],
      cancelled: new AbortController(),
      numReaders: 0,
      numLeft: 0,
      status: 'queued',
      epoch: 0,
      timesMs: { created: Date.now(), started: null, ended: null },
      news: Promise.withResolvers(),
    };
    this.#entryById.set(job.id, entry);
    this.submitted.push(entry.job);
    this.#nextSubmission.resolve(entry.job);
    this.#nextSubmission = Promise.withResolvers();
    if (this.#play !== null) this.#start(entry, this.#play);
    return submittedEvents(job, readLog(entry, -1, signal));
  }

  async open(
    id: RequestId,
    after: LoggedEvent['id'] | null,
    signal: AbortSignal,
  ): Promise<AsyncIterable<LoggedEvent>> {
    await this.ping();
    const entry = this.#entryById.get(id);
    if (entry === undefined) throw new PlatformError('not_found', `no request ${id}`);
    return readLog(entry, after?.seq ?? -1, signal);
  }

  async reserved({ tenant, key, digest }: KeyedCall): Promise<string | null> {
    await this.ping();
    const first = this.#reservations.get(`${tenant} ${key}`);
    if (first === undefined || first.digest === digest) return first?.id ?? null;
    throw new PlatformError('idempotency_mismatch', 'another body', { param: 'Idempotency-Key' });
  }

  async reserve({ id, ...call }: Reservation): Promise<string> {
    const { tenant, key, digest } = call;
    if (!this.#reservations.has(`${tenant} ${key}`)) {
      this.#reservations.set(`${tenant} ${key}`, { id, digest });
    }
    return (await this.reserved(call)) ?? id;
  }

  async noteLeft(id: RequestId): Promise<number> {
    await this.ping();
    const entry = this.#entryById.get(id);
    if (entry === undefined) return 0;
    entry.numLeft += 1;
    return entry.numLeft;
  }

  async readersOf(id: RequestId): Promise<Readers> {
    await this.ping();
    const entry = this.#entryById.get(id);
    return { numLeft: entry?.numLeft ?? 0, numListening: entry?.numReaders ?? 0 };
  }

  async request(id: RequestId): Promise<RequestState | null> {
    await this.ping();
    const entry = this.#entryById.get(id);
    if (entry === undefined) return null;
    const { job, status, epoch, log, timesMs } = entry;
    const numEvents = log.length;
    return { id, job, status, epoch, numEvents, timesMs: { ...timesMs }, trimmed: null };
  }

  async cancel(id: RequestId): Promise<RequestState | null> {
    await this.ping();
    const entry = this.#entryById.get(id);
    if (entry === undefined) return null;
    this.cancelled.push(id);
    if (!FINAL.has(entry.status)) {
      entry.cancelled.abort();
      if (entry.status === 'queued') endUnbegun(entry, 'cancelled');
    }
    return this.request(id);
  }

  async ping(): Promise<void> {
    if (this.isDown) throw new PlatformError('unavailable', 'redis does not answer');
  }

  /** The job that is submitted next. */
  nextSubmission(): Promise<Job> {
    return this.#nextSubmission.promise;
  }

  /** Claims a request as a worker does. @returns its epoch */
  claim(id: RequestId): number {
    const entry = this.#entry(id);
    entry.epoch += 1;
    entry.status = 'running';
    entry.timesMs.started ??= Date.now();
    return entry.epoch;
  }

  /** Appends as the claim `epoch`. @throws {Error} when a later claim or the end fences it out */
  append(id: RequestId, epoch: number, event: RequestEvent): void {
    const entry = this.#entry(id);
    if (epoch !== entry.epoch || FINAL.has(entry.status))
      throw new Error(`${id} ${epoch} is fenced`);
    appendTo(entry, event);
  }

  /** Aborts when the request is cancelled. */
  cancellation(id: RequestId): AbortSignal {
    return this.#entry(id).cancelled.signal;
  }

  #loadFor(job: Job): QueueLoad {
    const field = servedModelField(job);
    const queued = [...this.#entryById.values()].filter(
      (entry) => entry.status === 'queued' && servedModelField(entry.job) === field,
    );
    const ahead = queued.filter((entry) => entry.job.priority <= job.priority);
    const ratePerSecond = this.#rates.get(field) ?? 0;
    return { numQueued: queued.length, numAhead: ahead.length, ratePerSecond };
  }

  #jobHost(): JobHost {
    return {
      ping: () => this.ping(),
      request: (id) => this.request(id),
      submit: async (job) => (await this.submit(job, new AbortController().signal)).job,
      expire: (id) => endUnbegun(this.#entry(id), 'deadline'),
      forget: (id) => this.#entryById.delete(id),
      place: (job) => this.#placeOf(job),
    };
  }

  #placeOf(job: Job): QueuePlace | null {
    if (this.#entry(job.id).status !== 'queued') return null;
    const field = servedModelField(job);
    const waiting = [...this.#entryById.values()].filter(
      (entry) => entry.status === 'queued' && servedModelField(entry.job) === field,
    );
    waiting.sort((a, b) => a.job.priority - b.job.priority);
    const numAhead = waiting.findIndex((entry) => entry.job.id === job.id);
    return { numAhead, ratePerSecond: this.#rates.get(field) ?? 0 };
  }

  #entry(id: RequestId): Entry {
    const entry = this.#entryById.get(id);
    invariant(entry !== undefined, `no request ${id}`);
    return entry;
  }

  #start(entry: Entry, play: Play): void {
    queueMicrotask(async () => {
      if (FINAL.has(entry.status)) return;
      const epoch = this.claim(entry.job.id);
      const { signal } = entry.cancelled;
      await play(entry.job, (event) => this.append(entry.job.id, epoch, event), signal);
    });
  }
}

export function doneOf(counts: { promptTokens: number; completionTokens: number }): RequestEvent {
  const usage = {
    ...counts,
    cachedTokens: 0,
    acceptedPredictionTokens: 0,
    rejectedPredictionTokens: 0,
  };
  const timings = { queuedMs: 0, prefillMs: 0, decodeMs: 0 };
  return { type: 'done', usage, timings, speculation: [] };
}
