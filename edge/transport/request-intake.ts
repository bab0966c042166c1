import { PlatformError } from '../../shared/errors.ts';
import type { RequestId } from '../../shared/ids.ts';
import { eventsOfUnbegun } from '../../shared/protocol/cancelled.ts';
import { encodeEvent } from '../../shared/protocol/event.ts';
import { decodeJob, encodeJob, isNotified, type Job } from '../../shared/protocol/job.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import {
  type CancelReason,
  decodeTrimmed,
  type RequestScripts,
} from '../../shared/protocol/request-scripts.ts';
import { refusalOf } from './admission.ts';
import type { Reach } from './reach.ts';
import type { RedisClient } from './redis-connection.ts';
import type { RequestQueues } from './request-queues.ts';
import { REQUEST_STATUSES, type RequestState, type RequestStatus } from './transport.ts';

/** In the order in which `find` reads them. */
const STATE_FIELDS = [
  'status',
  'job',
  'epoch',
  'nextSeq',
  'createdMs',
  'startedMs',
  'endedMs',
  'trimmedTo',
  'trimmed',
] as const;

export interface IntakeContext {
  readonly client: RedisClient;
  readonly reach: Reach;
  readonly keys: Keys;
  readonly scripts: RequestScripts;
  readonly queues: RequestQueues;
  /** Requests that may wait in one queue; more are refused. */
  readonly maxQueued: number;
}

/**
 * The steps by which a request comes to be, is looked up and is called off. All of them may be
 * repeated.
 */
export class RequestIntake {
  readonly #context: IntakeContext;

  constructor(context: IntakeContext) {
    this.#context = context;
  }

  /**
   * Concurrent calls see the same queue: together they may fill it beyond its bound, each by one.
   *
   * @throws {PlatformError} `rate_limit_exceeded` or `deadline_exceeded` for a new request that its
   *   queue is too long for
   */
  async admit(job: Job): Promise<void> {
    const { queues, maxQueued } = this.#context;
    const refusal = refusalOf(job, await queues.loadFor(job), maxQueued);
    if (refusal === null) return;
    const isKnown = (await this.stageOf(job.id)) !== 'gone';
    if (!isKnown) throw refusal;
  }

  /** @returns the job itself when it is new, else the one that its id has stood for so far */
  async create(job: Job): Promise<Job> {
    const { reach, scripts } = this.#context;
    const options = { keepMs: job.keepMs, isNotified: isNotified(job) };
    const isNew = await reach.call(() => scripts.create(job.id, encodeJob(job), options));
    return isNew ? job : ((await this.find(job.id))?.job ?? job);
  }

  async find(id: RequestId): Promise<RequestState | null> {
    const { client, keys, reach } = this.#context;
    const fields = await reach.call(() => client.hmget(keys.request(id).state, ...STATE_FIELDS));
    const [status, job, epoch, nextSeq, createdMs, startedMs, endedMs, trimmedTo, trimmed] = fields;
    if (!status || !job) return null;
    return {
      id,
      status: toStatus(status),
      job: decodeJob(job),
      epoch: Number(epoch),
      numEvents: Number(nextSeq),
      timesMs: {
        created: Number(createdMs),
        started: toTime(startedMs),
        ended: toTime(endedMs),
      },
      trimmed:
        trimmedTo && trimmed ? { to: Number(trimmedTo), choices: decodeTrimmed(trimmed) } : null,
    };
  }

  async stageOf(id: RequestId): Promise<'open' | 'ended' | 'gone'> {
    const { client, keys, reach } = this.#context;
    const status = await reach.call(() => client.hget(keys.request(id).state, 'status'));
    if (status === null) return 'gone';
    return status === 'queued' || status === 'running' ? 'open' : 'ended';
  }

  /** Ends a request that no worker has begun; asks the worker of any other to. */
  async cancel(job: Job, reason: CancelReason): Promise<void> {
    const { queues, reach, scripts } = this.#context;
    const payloads = eventsOfUnbegun(job, reason, Date.now()).map(encodeEvent);
    const end = await reach.call(() => scripts.cancel(job.id, reason, payloads));
    if (end === 'ended') await queues.remove(job);
  }
}

function toStatus(text: string): RequestStatus {
  const status = REQUEST_STATUSES.find((known) => known === text);
  if (status === undefined) {
    throw new PlatformError('protocol_mismatch', `unknown status: ${text}`);
  }
  return status;
}

function toTime(text: string | null | undefined): number | null {
  return text ? Number(text) : null;
}
