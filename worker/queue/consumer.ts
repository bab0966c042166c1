import { once } from 'node:events';
import { type Job as QueueJob, WaitingError, Worker } from 'bullmq';
import { type RequestId, toRequestId } from '../../shared/ids.ts';
import { turnTokens } from '../../shared/protocol/endless.ts';
import { isUnbounded, type Job, numChoices } from '../../shared/protocol/job.ts';
import type { QueueOf } from '../../shared/protocol/keys.ts';
import type { CancelReason } from '../../shared/protocol/request-scripts.ts';
import { BackOfQueue } from './back-of-queue.ts';
import { listenForCancels } from './cancellation.ts';
import type { RedisConnections } from './connection.ts';
import { FairShare, type Holder } from './fair-share.ts';
import { FinishRate } from './finish-rate.ts';
import type { LeftRequest } from './left-request.ts';
import { QuietQueueWatch } from './quiet-queue-watch.ts';
import { RequestRun, type RunContext } from './request-run.ts';
import { YieldedRequests } from './yielded-requests.ts';

export interface ConsumerOptions {
  readonly queue: QueueOf;
  readonly redis: RedisConnections;
  /** Requests at a time: the engine's rows. */
  readonly maxRunning: number;
  /** A request whose lock was not renewed for this long has lost its worker. */
  readonly lockMs: number;
  readonly stalledCheckMs: number;
  /** Time to hand everything over once told to stop. */
  readonly graceMs: number;
  /**
   * Output tokens of each choice after which a request without bound gives its place to one that
   * waits, at least.
   */
  readonly quantumTokens: number;
}

/**
 * A request may have many choices, each of which wants a row. Some may wait, so that no row is
 * empty when one of them ends.
 */
const MAX_CHOICES_PER_ROW = 2;

/** Deaths are counted by the claim script, which knows progress from none. */
const UNLIMITED = 1_000_000;

interface Running {
  readonly run: RequestRun;
  readonly over: Promise<unknown>;
  /** Whether it gives its place to others, and goes to the end of the queue. */
  isTurnOver: boolean;
}

/**
 * Takes requests off the queue, as many as the engine has rows, and hands them over when told to
 * stop.
 */
export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #context: RunContext;
  readonly #runningById = new Map<RequestId, Running>();
  readonly #finishRate: FinishRate;
  readonly #yielded = new YieldedRequests();
  readonly #backOfQueue: BackOfQueue;
  readonly #failure = Promise.withResolvers<never>();
  #worker: Worker | null = null;
  #numTaken = 0;
  #isStopping = false;

  constructor(options: ConsumerOptions, context: RunContext) {
    this.#options = options;
    this.#context = context;
    this.#finishRate = new FinishRate(options.maxRunning, Date.now);
    this.#backOfQueue = new BackOfQueue(context, options.queue);
  }

  get numRunning(): number {
    return this.#runningById.size;
  }

  /** Whether it would take one more request. */
  get #hasRoom(): boolean {
    return this.numRunning < this.#options.maxRunning && this.#hasRows;
  }

  /** Whether the choices of its requests are not too many for its rows. */
  get #hasRows(): boolean {
    const runs = Array.from(this.#runningById.values(), ({ run }) => run);
    const count = runs.reduce((sum, { job }) => sum + (job === null ? 1 : numChoices(job)), 0);
    return count < MAX_CHOICES_PER_ROW * this.#options.maxRunning;
  }

  /** Requests that it can finish a second; 0 while nothing is measured. */
  get ratePerSecond(): number {
    return this.#finishRate.perSecond;
  }

  /**
   * Works until told to stop, and returns when every request is finished or handed over.
   *
   * @throws {Error} a bug met in working on a request; its lock runs out and another worker takes
   *   over
   */
  async run(signal: AbortSignal): Promise<void> {
    const { queue, redis, stalledCheckMs: checkMs } = this.#options;
    const { keys } = this.#context;
    const hasRoom = () => this.#hasRoom;
    using _yielded = this.#yielded;
    await listenForCancels(redis.subscriber, keys, (id, reason) => {
      this.#runningById.get(id)?.run.cancel(reason);
      this.#yielded.end(id, reason);
    });
    this.#worker = this.#openWorker();
    using _watch = new QuietQueueWatch(redis.command, keys, {
      queue,
      checkMs,
      hasRoom,
      numTaken: () => this.#numTaken,
      onStuck: () => this.#reopenWorker(),
    });
    using _share = new FairShare(redis.command, keys, {
      queue,
      checkMs,
      hasRoom,
      holders: () => this.#holders,
      onTurnOver: (id) => this.#yield(id),
    });
    if (!signal.aborted) await Promise.race([once(signal, 'abort'), this.#failure.promise]);
    await Promise.race([this.#handOver(), afterMs(this.#options.graceMs)]);
  }

  #openWorker(): Worker {
    const { queue, redis, maxRunning, lockMs, stalledCheckMs } = this.#options;
    const { prefix, name } = this.#context.keys.queue(queue);
    const worker = new Worker(name, (job, token) => this.#process(job, token), {
      prefix,
      connection: redis.command,
      concurrency: maxRunning,
      lockDuration: lockMs,
      lockRenewTime: Math.floor(lockMs / 3), // so that two renewals may come late
      stalledInterval: stalledCheckMs,
      maxStalledCount: UNLIMITED,
      drainDelay: 2,
      runRetryDelay: 200,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    const { log } = this.#context;
    worker.on('error', ({ message }) => log.warn('queue_error', { reason: message }));
    worker.on('stalled', (id) => log.warn('request_stalled', { id }));
    worker.on('lockRenewalFailed', (ids) => log.warn('locks_lost', { num_lost: ids.length }));
    return worker;
  }

  /** The old one takes no more, but keeps the locks of what it has taken. */
  #reopenWorker(): void {
    const old = this.#worker;
    this.#context.log.warn('consumer_reopened', { num_running: this.numRunning });
    this.#worker = this.#openWorker();
    void old?.close();
  }

  /** Leaves requests to others while those that are here wait for rows. */
  #fitConcurrency(): void {
    if (this.#worker === null) return;
    const { maxRunning } = this.#options;
    this.#worker.concurrency = this.#hasRows ? maxRunning : Math.max(1, this.numRunning);
  }

  async #process(job: QueueJob, token: string | undefined): Promise<void> {
    this.#numTaken += 1;
    const id = toRequestId(job.id ?? '');
    if (this.#isStopping) {
      await this.#giveBack(job, token);
      throw new WaitingError();
    }
    this.#yielded.remove(id);
    this.#backOfQueue.noteTaken(job.id).catch((error) => this.#failure.reject(error));
    const before = this.#runningById.get(id);
    if (before !== undefined) {
      // Its lock ran out and came back to us.
      await before.run.drop();
      await before.over;
    }
    const run = new RequestRun(id, this.#context, () => this.#fitConcurrency());
    const finish = this.#finishRate.start();
    const over = run.run();
    const running: Running = { run, over, isTurnOver: false };
    this.#runningById.set(id, running);
    try {
      const end = await over;
      if (end === 'released') {
        if (running.isTurnOver) await this.#giveBackAtEnd(job, token, run);
        else await this.#giveBack(job, token);
        throw new WaitingError();
      }
      // How long one without bound ran says nothing of the next.
      if (end === 'finished' && run.job && !isUnbounded(run.job)) finish(this.numRunning);
    } catch (error) {
      if (error instanceof WaitingError) throw error;
      this.#failure.reject(error);
      await new Promise(() => undefined); // never done: neither finished nor failed
    } finally {
      if (this.#runningById.get(id) === running) this.#runningById.delete(id);
      this.#fitConcurrency();
    }
  }

  /** Puts the job at the head of its priority, for a worker that waits. */
  async #giveBack(job: QueueJob, token: string | undefined): Promise<void> {
    const { redis, keys, log } = this.#context;
    const marker = keys.queueMarker(this.#options.queue);
    try {
      await job.moveToWait(token);
      // BullMQ wakes nobody for a job that goes back with a priority.
      await redis.ask((client) => client.zadd(marker, 0, '0'));
    } catch (error) {
      // Its lock is lost, so that it goes back as stalled instead.
      log.warn('give_back_refused', { id: job.id ?? null, reason: String(error) });
    }
  }

  get #holders(): Holder[] {
    return Array.from(this.#runningById, ([id, { run }]) => ({
      id,
      numTokens: run.numTokens,
      turnTokens: this.#turnTokensOf(run.job),
    }));
  }

  #turnTokensOf(job: Job | null): number {
    if (job?.contextPolicy.type !== 'sinks' || !isUnbounded(job)) return Infinity;
    const perChoice = Math.max(this.#options.quantumTokens, turnTokens(job.contextPolicy));
    return perChoice * numChoices(job);
  }

  /** Lets a request give its place away, at a token's boundary. */
  #yield(id: RequestId): void {
    const running = this.#runningById.get(id);
    if (running === undefined || running.isTurnOver || this.#isStopping) return;
    running.isTurnOver = true;
    running.run.release().catch((error) => this.#failure.reject(error));
  }

  async #giveBackAtEnd(job: QueueJob, token: string | undefined, run: RequestRun): Promise<void> {
    const id = toRequestId(job.id ?? '');
    this.#context.log.info('turn_over', { id, num_tokens: run.numTokens });
    if (run.left !== null) this.#watchYielded(id, run.left, run.cancelReason);
    await this.#forgetTaken();
    await this.#giveBack(job, token);
    await this.#backOfQueue.add(job, run.job?.priority ?? job.priority);
  }

  /** Sees to it that a request ends which waits and is not wanted any more. */
  #watchYielded(id: RequestId, left: LeftRequest, cancelReason: CancelReason | null): void {
    const end = (reason: CancelReason) => {
      left.end(reason).catch((error) => this.#failure.reject(error));
    };
    this.#yielded.add({ id, deadlineMs: left.deadlineMs, end });
    if (cancelReason !== null) this.#yielded.end(id, cancelReason);
  }

  async #forgetTaken(): Promise<void> {
    for (const id of this.#yielded.ids) {
      if (!(await this.#isQueued(id))) this.#yielded.remove(id);
    }
  }

  async #isQueued(id: RequestId): Promise<boolean> {
    const { redis, keys } = this.#context;
    const { state } = keys.request(id);
    return (await redis.ask((client) => client.hget(state, 'status'))) === 'queued';
  }

  async #handOver(): Promise<void> {
    this.#isStopping = true;
    await this.#worker?.pause(true);
    await Promise.all(Array.from(this.#runningById.values(), ({ run }) => run.release()));
    await this.#worker?.close();
  }
}

function afterMs(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
