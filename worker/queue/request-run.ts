import { atDeadline } from '../../shared/deadline.ts';
import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import type { ErrorEvent } from '../../shared/protocol/event.ts';
import { decodeJob, isUnbounded, type Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import type {
  CancelReason,
  Claim,
  ClaimReply,
  RequestScripts,
} from '../../shared/protocol/request-scripts.ts';
import type { Log } from '../telemetry/log.ts';
import { EventLog, type LogEnd, type LogWatch } from './event-log.ts';
import type { GenerationEvent, Generator, PublishedChoice } from './generation.ts';
import type { LastTries } from './last-tries.ts';
import { LeftRequest } from './left-request.ts';
import { type LogLimits, LogTrimmer } from './log-trimmer.ts';
import type { PatientRedis } from './patient-redis.ts';
import { isPoisonous, setAside } from './poison.ts';
import { type Published, readPublished } from './published.ts';

export interface RunContext {
  readonly redis: PatientRedis;
  readonly keys: Keys;
  readonly scripts: RequestScripts;
  readonly generator: Generator;
  readonly log: Log;
  readonly workerId: string;
  /** Claims in a row that may lead nowhere. */
  readonly maxClaims: number;
  /** Requests for which this claim would be the last such are tried in turn. */
  readonly lastTries: LastTries;
  readonly logLimits: LogLimits;
  /** After this long without a listener a request that is to end with its client is cancelled. */
  readonly orphanMs: number;
}

/**
 * `finished`: it ran here to its end. `released`: another worker is to claim it. `over`: nothing is
 * left to do here.
 */
export type RunEnd = 'finished' | 'released' | 'over';

/** Events after which a worker's death is not held against the request. */
const MIN_PROGRESS = 2;

/** A request on this worker, from its claim to its end, its release, or the claim of another. */
export class RequestRun {
  readonly #id: RequestId;
  readonly #context: RunContext;
  readonly #onJob: () => void;
  #current: { readonly claim: Claim; readonly eventLog: EventLog } | null = null;
  #job: Job | null = null;
  /** `null` for a request with a bound: its log stays whole. */
  #trimmer: LogTrimmer | null = null;
  #left: LeftRequest | null = null;
  #numTokens = 0;
  /** How it ends when a choice was cut short. */
  #cutShort: 'cancelled' | 'expired' | null = null;
  #endTry: () => void = () => undefined;
  /** Aborts when it is to wait for nothing any more. */
  readonly #hurry = new AbortController();
  /** What it is now, if it is endless and was given back. */
  get left(): LeftRequest | null {
    return this.#left;
  }

  /** Why it is to end, once somebody has said so. */
  #cancelReason: CancelReason | null = null;
  #isStarted = false;
  #hasRun = false;
  #isLeaving = false;
  #isDropped = false;
  #isReleased = false;

  /** @param onJob called once the job is known */
  constructor(id: RequestId, context: RunContext, onJob: () => void = () => undefined) {
    this.#id = id;
    this.#context = context;
    this.#onJob = onJob;
  }

  /** `null` before it is claimed. */
  get job(): Job | null {
    return this.#job;
  }

  /** Why it is to end, once somebody has said so. */
  get cancelReason(): CancelReason | null {
    return this.#cancelReason;
  }

  /** Output tokens that it has had on this worker. */
  get numTokens(): number {
    return this.#numTokens;
  }

  async run(): Promise<RunEnd> {
    const { log } = this.#context;
    const id = this.#id;
    for (;;) {
      const claim = await this.#claim();
      if (claim.type !== 'claimed') {
        log.debug('request_over', { id, reason: claim.type });
        return 'over';
      }
      log.info('request_claimed', { id, epoch: claim.epoch, next_seq: claim.nextSeq });
      const end = await this.#work(claim).finally(() => this.#endTry());
      log.info('request_left', { id, epoch: claim.epoch, end });
      if (this.#isReleased) return 'released';
      if (end === 'finished' && this.#hasRun) return 'finished';
      // Redis lost events that readers may have seen; the same bytes are written again.
      if (end !== 'gap') return 'over';
    }
  }

  /** Ends it within a step, or as soon as it has begun. */
  cancel(reason: CancelReason): void {
    this.#cancelReason ??= reason;
    this.#hurry.abort();
    if (this.#isStarted) this.#context.generator.cancel(this.#id, this.#cancelReason);
  }

  /** Publishes what there is and gives the request back, at a token's boundary. */
  async release(): Promise<void> {
    this.#isLeaving = true;
    this.#hurry.abort();
    await this.#context.generator.release(this.#id);
    const current = this.#current;
    if (current === null || current.eventLog.isEnding) return;
    await current.eventLog.flush();
    const { claim, eventLog } = current;
    await this.#giveBack(claim, eventLog);
    eventLog.drop();
  }

  /** Stops without a word: the request is claimed anew. */
  async drop(): Promise<void> {
    this.#isDropped = true;
    this.#hurry.abort();
    this.#current?.eventLog.drop();
    await this.#context.generator.release(this.#id);
  }

  /** Claims of a row that may be made in company; after them the request is a suspect. */
  get #maxEntered(): number {
    return Math.max(this.#context.maxClaims - 1, 1);
  }

  #claim(): Promise<ClaimReply> {
    const { scripts, workerId } = this.#context;
    return scripts.claim(this.#id, workerId, MIN_PROGRESS, this.#maxEntered);
  }

  /**
   * Lets a suspect be read once no other one is tried here, and holds what comes of it against it
   * from then on: not before, since it may have waited for long.
   */
  async #tryLast({ epoch }: Claim, eventLog: EventLog): Promise<void> {
    const { scripts, workerId, lastTries, generator, log } = this.#context;
    const { signal } = this.#hurry;
    log.warn('request_suspect', { id: this.#id });
    const endTry = await lastTries.begin(signal);
    this.#endTry = endTry;
    const standing = signal.aborted ? null : await scripts.enter(this.#id, workerId, epoch);
    if (this.#current?.eventLog !== eventLog) endTry();
    else if (standing === 'ok') generator.proceed(this.#id);
    else if (standing !== null) eventLog.stop(standing);
  }

  async #work(claim: Claim): Promise<LogEnd> {
    const { epoch, nextSeq } = claim;
    const eventLog = new EventLog(this.#context.scripts, { id: this.#id, epoch, nextSeq });
    this.#current = { claim, eventLog };
    if (await isPoisonous(this.#context, this.#id, claim)) return this.#setAside(claim, eventLog);
    try {
      return await this.#generate(claim, decodeJob(claim.job), eventLog);
    } catch (error) {
      if (!(error instanceof PlatformError)) throw error;
      const { code, message, param } = error;
      return end(eventLog, { type: 'error', code, message, param });
    } finally {
      this.#current = null;
    }
  }

  async #generate(claim: Claim, job: Job, eventLog: EventLog): Promise<LogEnd> {
    const { redis, keys, generator } = this.#context;
    this.#job = job;
    this.#onJob();
    const published = await readPublished(redis, keys, job);
    if (this.#isLeaving) await this.#giveBack(claim, eventLog);
    if (this.#isLeaving || this.#isDropped) return 'dropped';
    for (const choice of published.choices) this.#noteEnd(choice);
    eventLog.watch = this.#watchOf(claim, job, published);
    const isHeld = claim.numClaims > this.#maxEntered;
    const beginning = { choices: published.choices, isHeld };
    generator.start(job, beginning, (events) => this.#take(events, claim, eventLog));
    this.#isStarted = true;
    this.#hasRun = true;
    const reason = claim.cancel ?? this.#cancelReason;
    if (reason !== null) this.cancel(reason);
    const callOff = atDeadline(job.deadlineMs, () => this.cancel('deadline'));
    try {
      const logEnd = await eventLog.ended;
      const isOurs = logEnd === 'finished' || logEnd === 'dropped';
      if (!isOurs) await generator.release(this.#id);
      return logEnd;
    } finally {
      this.#isStarted = false;
      callOff();
    }
  }

  #noteEnd({ finishReason }: Pick<PublishedChoice, 'finishReason'>): void {
    if (finishReason === 'cancelled') this.#cutShort ??= 'cancelled';
    if (finishReason === 'deadline') this.#cutShort ??= 'expired';
  }

  /**
   * Ends the request's try when it has come further, hears of cancels, notices that nobody listens,
   * and lets the log of an endless one be cut as it grows.
   */
  #watchOf({ epoch, nextSeq }: Claim, job: Job, published: Published): LogWatch {
    const { scripts, logLimits, orphanMs } = this.#context;
    const options = { id: this.#id, epoch, job, ...logLimits, now: Date.now };
    const trimmer = isUnbounded(job) ? new LogTrimmer(scripts, options, published) : null;
    this.#trimmer = trimmer;
    return {
      beforeWrite: (events, payloads) => trimmer?.addEvents(events, payloads),
      afterWrite: async (reply) => {
        if (reply.cancel !== null) this.cancel(reply.cancel);
        else if (endsWithClient(job) && reply.unheardMs >= orphanMs) this.#abandon();
        if (reply.nextSeq - nextSeq >= MIN_PROGRESS) this.#endTry();
        await trimmer?.trim(reply.nextSeq);
      },
    };
  }

  /** Nobody is left to read it: its edge died before it could say that the client went away. */
  #abandon(): void {
    if (this.#cancelReason !== null) return;
    this.#context.log.info('request_orphaned', { id: this.#id });
    this.cancel('cancelled');
  }

  async #giveBack({ epoch, queuedMs }: Claim, { nextSeq }: EventLog): Promise<void> {
    if (!(await this.#context.scripts.release(this.#id, epoch))) return;
    this.#isReleased = true;
    if (this.#trimmer === null || this.#job === null) return;
    const { choices } = this.#trimmer.progress;
    const standing = { epoch: epoch + 1, nextSeq, queuedMs, choices };
    this.#left = new LeftRequest(this.#context, this.#job, standing);
  }

  #take(events: readonly GenerationEvent[], claim: Claim, eventLog: EventLog): void {
    for (const event of events) {
      switch (event.type) {
        case 'echo':
          eventLog.append([event]);
          break;
        case 'tokens':
          this.#noteEnd(event);
          this.#numTokens += event.tokenIds.length;
          eventLog.append([event]);
          break;
        case 'due':
          this.#tryLast(claim, eventLog).catch((error: unknown) => eventLog.fail(error));
          break;
        case 'error':
          eventLog.finish(event, { status: 'failed' });
          break;
        case 'end': {
          const { usage } = event;
          const speculation = [...event.speculation];
          const timings = { queuedMs: claim.queuedMs, ...event.timings };
          const status = this.#cutShort ?? 'succeeded';
          eventLog.finish({ type: 'done', usage, timings, speculation }, { status });
        }
      }
    }
  }

  /** Every worker that took it died or gave nothing: it is answered, and kept for us to look at. */
  async #setAside(claim: Claim, eventLog: EventLog): Promise<LogEnd> {
    await setAside(this.#context, this.#id, claim);
    const message = `${claim.numClaims - 1} workers were lost while they worked on this request`;
    return end(eventLog, { type: 'error', code: 'internal', message, param: null });
  }
}

function endsWithClient({ onDisconnect, background, class: jobClass }: Job): boolean {
  return onDisconnect === 'cancel' && !background && jobClass !== 'batch';
}

function end(eventLog: EventLog, error: ErrorEvent): Promise<LogEnd> {
  eventLog.finish(error, { status: 'failed' });
  return eventLog.ended;
}
